"""/healthz and /readyz of the started program."""

import json
import sqlite3
from contextlib import closing

from ringback.graphql_api.transport.health import CHECK_SECONDS
from tests.support.patience import PATIENCE_SECONDS
from tests.support.program import Program

TABLE = "ringback_installation"


def test_readiness_tells_strangers_nothing_about_the_database(own_program: Program) -> None:
    assert read(own_program, "/readyz") == (200, b"ok\n")

    rename_table(own_program, TABLE, "elsewhere")
    own_program.wait_until(lambda: read(own_program, "/readyz") == (503, b"not ready\n"), "not ready")
    for _ in range(3):
        assert read(own_program, "/readyz") == (503, b"not ready\n")
    assert read(own_program, "/healthz") == (200, b"ok\n")
    rename_table(own_program, "elsewhere", TABLE)
    own_program.wait_until(lambda: read(own_program, "/readyz") == (200, b"ok\n"), "ready", 10 * CHECK_SECONDS)

    lines = [json.loads(line) for line in own_program.log().splitlines()]
    not_ready, ready = [line for line in lines if line["action"] == "readiness"]
    assert not_ready["event"] == "not ready: the database does not answer"
    assert TABLE in not_ready["reason"]
    assert ready["event"] == "ready again: the database answers"


def read(program: Program, path: str) -> tuple[int, bytes]:
    status, _, body = program.request("GET", path)
    return status, body


def rename_table(program: Program, name: str, new_name: str) -> None:
    with closing(sqlite3.connect(program.data_dir / "ringback.db", PATIENCE_SECONDS)) as db:
        db.execute(f"ALTER TABLE {name} RENAME TO {new_name}")
