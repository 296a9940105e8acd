"""Attacks by queries that read and return very many bytes: eight aliases for pages of large rows."""

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from ringback.models.ids import new_key
from tests.contract import operations
from tests.support.bystander import measure_attack
from tests.support.program import Program

pytestmark = pytest.mark.alone

ALIASES = 8
#: Large rows of each kind. Eight pages of them are 320 MB.
ROWS = 40
LARGE_TEXT = "x" * 1_000_000


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    with Program(tmp_path) as program:
        yield program


def select_eight_times(field: str) -> str:
    return "query {" + " ".join(f"a{number}: {field}" for number in range(ALIASES)) + "}"


def fill_inbox(program: Program) -> str:
    inbox = program.query(operations()["CreateInbox"], {"input": {}})["createInbox"]["inbox"]
    for _ in range(ROWS):
        status, _, _ = program.request("POST", str(urlsplit(inbox["url"]).path), LARGE_TEXT.encode())
        assert status == 200
    return f'inbox(id: "{inbox["id"]}") {{ requests(first: 100) {{ nodes {{ body bodyBase64 }} }} }}'


def fill_events(program: Program) -> str:
    event = fire_test(program)
    copy_rows(program, "ringback_event", event, test_item=json.dumps({"id": "1", "text": LARGE_TEXT}))
    return "events(first: 100) { nodes { item } }"


def fill_attempts(program: Program) -> str:
    fire_test(program)
    with closing(sqlite3.connect(program.data_dir / "ringback.db", 60)) as db:
        (attempt,) = program.wait_until(
            lambda: db.execute("SELECT id FROM ringback_attempt LIMIT 1").fetchone(), "an attempt"
        )
    # The body of a stored response has at most 64 KiB; there are as many more of them.
    response = json.dumps({"headers": [], "body": "x" * 65_536, "body_truncated": True})
    copy_rows(program, "ringback_attempt", attempt, count=10 * ROWS, response=response)
    return "attempts(first: 100) { nodes { response { a: body b: body c: body d: body e: body } } }"


def fire_test(program: Program) -> str:
    """Fire a test at an inbox. Return the key of its event in the database."""
    inbox = program.query(operations()["CreateInbox"], {"input": {}})["createInbox"]["inbox"]
    webhook = {"model": "lead", "actions": ["CREATED"], "url": inbox["url"], "sendJson": True}
    made = program.query(operations()["CreateWebhook"], {"input": webhook})["createWebhook"]
    program.query(operations()["TestFireWebhook"], {"input": {"webhookId": made["webhook"]["id"]}})
    with closing(sqlite3.connect(program.data_dir / "ringback.db", 60)) as db:
        done = "SELECT id FROM ringback_event WHERE status = 'SUCCEEDED'"
        (event,) = program.wait_until(lambda: db.execute(done).fetchone(), "the delivery")
    return str(event)


def copy_rows(program: Program, table: str, key: str, count: int = ROWS, **changed: Any) -> None:
    """Copy a row of the program's database with some columns changed."""
    with closing(sqlite3.connect(program.data_dir / "ringback.db", 60)) as db:
        db.row_factory = sqlite3.Row
        row = dict(db.execute(f"SELECT * FROM {table} WHERE id = ?", [key]).fetchone())
        for number in range(count):
            copy = {**row, **changed, "id": str(new_key())}
            if "number" in copy:
                copy["number"] = number + 2
            marks = ", ".join("?" * len(copy))
            db.execute(f"INSERT INTO {table} ({', '.join(copy)}) VALUES ({marks})", list(copy.values()))
        db.commit()


@pytest.mark.parametrize("fill", [fill_inbox, fill_events, fill_attempts])
def test_aliases_of_large_pages_are_refused(program: Program, fill: Callable[[Program], str]) -> None:
    field = fill(program)

    with measure_attack(program) as cost:
        answer = program.execute(select_eight_times(field))

    cost.check()
    size = len(json.dumps(answer))
    assert size <= 16_777_216 + 65_536
    errors = [error["extensions"] for error in answer["errors"]]
    assert errors == [{"code": "LIMIT_EXCEEDED", "limit": "response_bytes", "allowed": 16_777_216}] * len(errors)
    assert "RINGBACK_API_MAX_RESPONSE_BYTES" in answer["errors"][0]["message"]
    assert "Traceback" not in program.log()
