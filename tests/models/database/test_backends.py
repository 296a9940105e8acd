"""Tests of Postgres databases: migrations, waiting at the start, and errors that the operator must fix."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from ringback.models import ConfigurationError, Settings, bootstrap, load_settings, migrate, open_database
from ringback.models.database import backends
from ringback.models.delivery_log import Installation
from ringback.models.site_settings import SiteSettings
from tests.support import postgres
from tests.support.patience import PATIENCE_SECONDS
from tests.support.servers import free_port

NAMES = [f"ringback.{name}" for name in bootstrap.list_migrations()]


@pytest.fixture(autouse=True)
def _other_statements() -> Iterator[None]:
    with postgres.other_statements():
        yield


@pytest_asyncio.fixture
async def empty(postgres_server: str, tmp_path: Path) -> AsyncIterator[Settings]:
    """Yield settings with a new, empty database."""
    url = await postgres.create(postgres_server)
    yield load_settings(database_url=url, data_dir=tmp_path / "data", start_timeout_seconds=0)
    await postgres.drop(postgres_server, url)


async def execute(settings: Settings, statement: str) -> None:
    connection = await asyncpg.connect(settings.database_url)
    await connection.execute(statement)
    await connection.close()


async def open_and_fail(settings: Settings) -> None:
    async with open_database(settings):
        raise AssertionError("opened")


async def test_an_empty_database_is_migrated_once(empty: Settings) -> None:
    with pytest.raises(ConfigurationError, match=r"has no tables of Ringback\. Create them with `ringback migrate`"):
        await open_and_fail(empty)
    assert await migrate(empty) == NAMES
    assert await migrate(empty) == []
    async with open_database(empty):
        assert (await SiteSettings.get()).track_leads is False
        assert (await Installation.get()).epoch.version == 7


async def test_two_tasks_migrate_at_once(empty: Settings) -> None:
    applied = await asyncio.gather(migrate(empty), migrate(empty))
    assert sorted(applied) == [[], NAMES]


async def test_a_migration_of_another_process_that_does_not_end(
    empty: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backends, "MIGRATION_LOCK_SECONDS", 0.1)
    holder = await asyncpg.connect(empty.database_url)
    await holder.execute(f"SELECT pg_advisory_lock({backends._LOCK_KEY})")
    with pytest.raises(ConfigurationError, match=r"^Another process has been migrating .* for 0\.1 s\. Wait for it"):
        await migrate(empty)
    await holder.close()

    assert await migrate(empty) == NAMES


async def test_a_lock_timeout_within_a_migration_is_not_translated(empty: Settings) -> None:
    with pytest.raises(asyncpg.LockNotAvailableError):
        async with backends.PostgresDatabase(empty.database_url).lock_migrations():
            raise asyncpg.LockNotAvailableError("could not obtain lock on relation shop_car")


async def test_a_newer_database_is_refused(empty: Settings) -> None:
    await migrate(empty)
    await execute(empty, "INSERT INTO tortoise_migrations (app, name, applied_at) VALUES ('ringback', '0099_later', now())")  # fmt: skip  # noqa: E501
    for attempt in (migrate(empty), open_and_fail(empty)):
        with pytest.raises(ConfigurationError, match=r"is newer than this program \(it has 0099_later\)"):
            await attempt


async def test_a_new_database_in_another_encoding_is_refused(empty: Settings) -> None:
    await execute(empty, "CREATE DATABASE rb_latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'")
    url = postgres.named(empty.database_url, "rb_latin")
    latin = load_settings(database_url=url, data_dir=empty.data_dir)

    with pytest.raises(ConfigurationError) as caught:
        await migrate(latin)

    assert str(caught.value) == (
        f"The database {backends.PostgresDatabase(url)} has the encoding LATIN1, but Ringback needs UTF8. "
        "Create one with CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0."
    )
    with pytest.raises(ConfigurationError, match="has no tables of Ringback"):
        await open_and_fail(latin)
    await postgres.drop(empty.database_url, url)


async def test_a_failed_migration_leaves_no_tables(empty: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    from tortoise.migrations.recorder import MigrationRecorder

    async def fail(self: object, app: str, name: str) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(MigrationRecorder, "record_applied", fail)
    with pytest.raises(ZeroDivisionError):
        await migrate(empty)
    monkeypatch.undo()
    assert await migrate(empty) == NAMES


async def test_an_unreachable_server_is_an_error_after_the_timeout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each failure is logged, and neither the log nor the error shows the password."""
    monkeypatch.setattr(backends, "RETRY_SECONDS", 0.1)
    port = free_port()
    url = f"postgres://me:hidden@127.0.0.1:{port}/rb"
    settings = load_settings(database_url=url, data_dir=tmp_path, start_timeout_seconds=1.5)
    started = time.monotonic()

    with capture_logs() as lines, pytest.raises(ConfigurationError) as caught:
        await migrate(settings)

    assert time.monotonic() - started >= 1.5
    assert [(line["event"], line["database"]) for line in lines] == [
        ("cannot reach the database, retrying", f"postgres://127.0.0.1:{port}/rb")
    ] * len(lines)
    assert len(lines) >= 2
    assert str(caught.value).startswith(f"Cannot open the database postgres://127.0.0.1:{port}/rb (")
    assert str(caught.value).endswith("). Start it, or set RINGBACK_DATABASE_URL to the right one.")
    assert "hidden" not in f"{caught.value}{lines}"


async def test_a_server_that_starts_within_the_timeout_is_migrated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backends, "RETRY_SECONDS", 0.1)
    with postgres.own() as server:
        server.stop()
        settings = load_settings(database_url=server.url, data_dir=tmp_path, start_timeout_seconds=PATIENCE_SECONDS)
        migrating = asyncio.create_task(migrate(settings))
        await asyncio.sleep(0.3)
        assert not migrating.done()
        await asyncio.to_thread(server.start)
        assert await migrating == NAMES


async def test_a_database_that_does_not_exist_is_an_error_at_once(empty: Settings) -> None:
    missing = empty.model_copy(
        update={
            "database_url": postgres.named(empty.database_url, "rb_nowhere"),
            "start_timeout_seconds": 10 * PATIENCE_SECONDS,
        }
    )
    with capture_logs() as lines, pytest.raises(ConfigurationError, match='database "rb_nowhere" does not exist'):
        await asyncio.wait_for(migrate(missing), PATIENCE_SECONDS)

    assert lines == []


def test_the_text_form_has_no_password() -> None:
    text_forms = {
        "postgres://me:hidden@db.example:5433/rb?sslmode=require": "postgres://db.example:5433/rb",
        "postgresql:///rb?host=/run/postgresql&password=hidden": "postgresql:///rb",
        "postgres://me:hid%40den@[::1]/rb": "postgres://[::1]/rb",
    }
    assert {url: str(backends.PostgresDatabase(url)) for url in text_forms} == text_forms
