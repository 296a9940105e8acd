"""`ringback serve`, `api` and `worker` warn at their start of webhooks whose templates would be refused today."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.support.program import Program, worker

WEBHOOK = """
mutation { createWebhook(input: {
  name: "Leads" model: "lead" actions: [CREATED] url: "https://hooks.example/" bodyTemplate: "{{ item.name }}"
}) { webhook { id } errors { message } } }
"""


def lose_the_field(program: Program) -> str:
    """Create a webhook whose template uses a field that its model does not have. Return its id."""
    webhook_id = program.query(WEBHOOK)["createWebhook"]["webhook"]["id"]
    with closing(sqlite3.connect(program.data_dir / "ringback.db", isolation_level=None)) as db:
        db.execute("UPDATE ringback_webhook SET body_template = '{{ item.nickname }}'")
    return str(webhook_id)


def find_warning(log: str) -> dict[str, Any] | None:
    lines = (json.loads(line) for line in log.splitlines())
    return next((line for line in lines if line["action"] == "check_webhooks"), None)


@pytest.mark.parametrize("command", ["serve", "api"])
def test_the_server_warns_at_its_start(tmp_path: Path, migrated: Path, command: str) -> None:
    with Program(tmp_path, command, migrated=migrated) as program:
        webhook_id = lose_the_field(program)
        assert find_warning(program.log()) is None
        program.stop()

        program.start()

        warning = program.wait_until(lambda: find_warning(program.log()), "the warning")
        assert warning["level"] == "warning"
        assert (warning["webhook_id"], warning["webhook"], warning["model"]) == (webhook_id, "Leads", "lead")
        assert (warning["place"], warning["problems"]) == (
            "bodyTemplate",
            ["Unknown field item.nickname. Did you mean item.name? (line 1, column 4)"],
        )


def test_the_worker_warns_at_its_start(tmp_path: Path, migrated: Path) -> None:
    with Program(tmp_path, "api", migrated=migrated) as program:
        webhook_id = lose_the_field(program)

        with worker(program, {}):
            log = tmp_path / "worker.log"
            warning = program.wait_until(lambda: find_warning(log.read_text()), "the warning")

        assert warning["webhook_id"] == webhook_id
