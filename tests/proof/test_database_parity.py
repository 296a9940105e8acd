"""Postgres stores, finds and refuses the same texts, numbers and bytes as SQLite, even with a Turkish locale.

Each hostile value goes through every operation that stores or searches it, on SQLite and on Postgres, and the answers
are compared. No answer is an internal error.
"""

import asyncio
import shutil
from pathlib import Path

import asyncpg

from ringback.models import bootstrap, load_settings
from tests.support import postgres
from tests.support.parity import visit_all

#: Rules for order and case that differ from Python's: i and I are different letters there.
LOCALE = "LOCALE_PROVIDER icu ICU_LOCALE 'tr-TR' LOCALE 'C'"


def test_postgres_answers_as_sqlite(postgres_server: str, migrated: Path, tmp_path: Path) -> None:
    shutil.copytree(migrated, tmp_path / "sqlite")
    expected = asyncio.run(visit_all(load_settings(data_dir=tmp_path / "sqlite")))

    settings = load_settings(data_dir=tmp_path / "postgres", database_url=create_database(postgres_server))
    with postgres.other_statements():
        asyncio.run(bootstrap.migrate(settings))
        answers = asyncio.run(visit_all(settings))

    assert answers.keys() == expected.keys()
    differences = {}
    for key, answer in answers.items():
        if answer != expected[key]:
            differences[key] = _excerpts(expected[key], answer)
    assert differences == {}


def create_database(server: str) -> str:
    """Create a database with the locale; returns its URL."""

    async def create() -> None:
        connection = await asyncpg.connect(server)
        try:
            await connection.execute(f"CREATE DATABASE parity TEMPLATE template0 {LOCALE}")
        finally:
            await connection.close()

    asyncio.run(create())
    return postgres.named(server, "parity")


def _excerpts(first: str, second: str) -> tuple[str, str]:
    """Return what both texts have where they begin to differ."""
    pairs = zip(first, second, strict=False)
    start = next((index for index, (one, other) in enumerate(pairs) if one != other), 0)
    around = slice(max(0, start - 100), start + 200)
    return first[around], second[around]
