"""The client examples, run on the started program as their READMEs say."""

import asyncio
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from tests.support.firing import fire, webhook_to_inbox
from tests.support.patience import PATIENCE_SECONDS
from tests.support.program import Program

ROOT = Path(__file__).parent.parent.parent
#: Seconds that generating types and compiling may take.
BUILD_SECONDS = 120.0
#: The log of each example's event, whose endpoint is busy at the first attempt.
LOG = ["EVENT_RECORDED", "ATTEMPT_FINISHED", "RETRY_SCHEDULED", "ATTEMPT_FINISHED", "EVENT_SUCCEEDED"]
#: Nothing listens on the discard port.
NO_SERVER = "http://127.0.0.1:9"
STORED = """
{
  events { nodes {
    id isTest status webhook { id } attempts { number outcome statusCode response { body } }
  } }
  webhooks(filter: {includeDeleted: true}) { nodes { id } }
  inboxes { nodes { id requests { nodes { signature body event { id } } } } }
}
"""


def run(
    command: list[str], folder: Path, program: Program | None = None, timeout: float = PATIENCE_SECONDS
) -> subprocess.CompletedProcess[str]:
    """Run a command as a user would, with the two environment variables that every README names."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("RINGBACK_", "npm_"))}
    if program is not None:
        env |= {"RINGBACK_URL": program.url, "RINGBACK_TOKEN": program.token}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=timeout)


def run_example(command: list[str], folder: Path, program: Program) -> list[str]:
    """Return the lines that an example prints. It must succeed and print nothing to stderr."""
    done = run(command, folder, program)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    return done.stdout.splitlines()


def copy_example(name: str, to: Path) -> Path:
    """Copy a TypeScript example with its packages, and the schema. Return the example's folder."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("Node.js is missing: apt-get install nodejs npm")
    source = ROOT / "examples" / name
    if not (source / "node_modules").is_dir():
        pytest.skip(f"the packages of examples/{name} are not installed: make clients")
    shutil.copy(ROOT / "schema.graphql", to)
    folder = to / "examples" / name
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("node_modules", "dist", "generated.ts"))
    (folder / "node_modules").symlink_to(source / "node_modules")
    return folder


def build(folder: Path) -> subprocess.CompletedProcess[str]:
    """Generate types from the schema and compile."""
    return run(["npm", "run", "--silent", "build"], folder, timeout=BUILD_SECONDS)


def build_example(name: str, to: Path) -> Path:
    """Copy a TypeScript example and compile it with the current schema."""
    folder = copy_example(name, to)
    done = build(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def ids(lines: list[str]) -> dict[str, str]:
    """Return the ids in the first three lines: of the inbox, the webhook and the event."""
    named = dict(line.split(" ", 1) for line in lines[:3])
    assert list(named) == ["inbox", "webhook", "event"]
    return named


def check_stored(program: Program, named: dict[str, str]) -> None:
    """Check that there is one event only, delivered at its second attempt, and that the inbox has both requests."""
    check_delivered(program.query(STORED), named)


def check_delivered(stored: dict[str, Any], named: dict[str, str]) -> None:
    assert stored["webhooks"]["nodes"] == [{"id": named["webhook"]}]
    assert stored["events"]["nodes"] == [
        {
            "id": named["event"],
            "isTest": True,
            "status": "SUCCEEDED",
            "webhook": {"id": named["webhook"]},
            "attempts": [
                {"number": 1, "outcome": "REJECTED", "statusCode": 503, "response": {"body": "busy"}},
                {"number": 2, "outcome": "DELIVERED", "statusCode": 200, "response": {"body": "thank you"}},
            ],
        }
    ]
    (inbox,) = stored["inboxes"]["nodes"]
    assert inbox["id"] == named["inbox"]
    requests = inbox["requests"]["nodes"]
    assert [(request["signature"], request["event"]["id"]) for request in requests] == [("VALID", named["event"])] * 2
    assert requests[0]["body"] == requests[1]["body"] != ""


def check_followed(lines: list[str]) -> None:
    """Check that each log entry was printed once and in order, although the connection was cut after the first."""
    assert [line.partition(": ")[0] for line in lines[3:8]] == LOG
    assert re.fullmatch(r"ATTEMPT_FINISHED: Attempt 1 of 2: REJECTED \(503\) in \d+ ms\..*", lines[4])
    assert lines[7] == "EVENT_SUCCEEDED: Succeeded after 2 attempts"


def check_attempts(lines: list[str]) -> None:
    """Check the printed event and its attempts, with their bodies."""
    assert lines[0] == "SUCCEEDED after 2 attempts"
    assert re.fullmatch(r'1\. POST \{"id":"lead_\w+",.*\} -> REJECTED 503 busy', lines[1])
    assert re.fullmatch(r'2\. POST \{"id":"lead_\w+",.*\} -> DELIVERED 200 thank you', lines[2])
    assert len(lines) == 3


def test_typescript_with_urql(tmp_path: Path, program: Program) -> None:
    folder = build_example("typescript-urql", tmp_path)
    lines = run_example(["npm", "run", "--silent", "start"], folder, program)
    check_stored(program, ids(lines))
    check_followed(lines)
    check_attempts(lines[8:])


def test_typescript_with_apollo(tmp_path: Path, program: Program) -> None:
    folder = build_example("typescript-apollo", tmp_path)
    lines = run_example(["npm", "run", "--silent", "start"], folder, program)
    check_followed(lines)
    # The printed attempts come from the cache, which several operations have filled.
    check_attempts(lines[8:11])
    assert lines[11:] == ["2 events in the list"]
    # The second event is only for the list.
    stored = program.query(STORED)
    (second,) = [event for event in stored["events"]["nodes"] if event["id"] != ids(lines)["event"]]
    assert second["webhook"] == {"id": ids(lines)["webhook"]}
    stored["events"]["nodes"].remove(second)
    (inbox,) = stored["inboxes"]["nodes"]
    inbox["requests"]["nodes"] = [r for r in inbox["requests"]["nodes"] if r["event"] != {"id": second["id"]}]
    check_delivered(stored, ids(lines))


def test_python_with_gql(program: Program) -> None:
    lines = run_example([sys.executable, "-W", "error", "main.py"], ROOT / "examples/python-gql", program)
    check_stored(program, ids(lines))
    check_followed(lines)
    check_attempts(lines[8:])


def test_the_python_example_pins_the_tested_packages() -> None:
    tested = set(re.findall(r"^[\w-]+==[\w.]+", (ROOT / "requirements-dev.lock").read_text(), re.MULTILINE))
    pinned = set(
        re.findall(r"^[\w-]+==[\w.]+", (ROOT / "examples/python-gql/requirements.txt").read_text(), re.MULTILINE)
    )
    assert "gql" in {name.partition("==")[0] for name in pinned}
    assert pinned <= tested


async def test_python_with_gql_follows_across_a_restart(own_program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RINGBACK_URL", own_program.url)
    monkeypatch.setenv("RINGBACK_TOKEN", own_program.token)
    spec = importlib.util.spec_from_file_location("python_gql", ROOT / "examples/python-gql/main.py")
    assert spec is not None
    assert spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    kinds = ["EVENT_RECORDED", "ATTEMPT_FINISHED", "EVENT_SUCCEEDED"]
    webhook_id = await asyncio.to_thread(webhook_to_inbox, own_program)
    cursors: list[str] = []

    async def read_three(log: Any) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            entries = [await anext(log) for _ in kinds]
        assert [entry["kind"] for entry in entries] == kinds
        cursors.extend(entry["cursor"] for entry in entries)

    async with example.over_websocket() as socket, aclosing(example.entries(socket, webhook_id, None)) as log:
        waiting = asyncio.ensure_future(read_three(log))
        await asyncio.sleep(0)
        await example.mutate(socket, example.TEST_FIRE, {"webhookId": webhook_id})
        await waiting
    async with aclosing(example.follow(webhook_id, cursors[-1])) as log:
        waiting = asyncio.ensure_future(read_three(log))
        await asyncio.to_thread(fire, own_program, webhook_id)
        await waiting
        waiting = asyncio.ensure_future(read_three(log))
        await asyncio.to_thread(own_program.stop)
        await asyncio.to_thread(own_program.start)
        await asyncio.to_thread(fire, own_program, webhook_id)
        await waiting
    assert len(set(cursors)) == 9


def run_alone(command: list[str], folder: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run an example without a server, with these variables only."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("RINGBACK_")} | env
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=PATIENCE_SECONDS)


def test_curl_ends_at_a_wrong_url() -> None:
    done = run_alone(["./deliver.sh"], ROOT / "examples/curl", RINGBACK_TOKEN="rbk_1", RINGBACK_URL=NO_SERVER)

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-1] == f"Ringback does not answer at {NO_SERVER}/graphql. Is it running?"


def test_python_with_gql_ends_at_a_wrong_url() -> None:
    command = [sys.executable, "main.py"]
    done = run_alone(command, ROOT / "examples/python-gql", RINGBACK_TOKEN="rbk_1", RINGBACK_URL=NO_SERVER)

    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(rf"No connection to {NO_SERVER}/graphql \(.+\)\. Is Ringback running\?\n", done.stderr)


def test_python_with_gql_asks_for_its_token() -> None:
    done = run_alone([sys.executable, "main.py"], ROOT / "examples/python-gql")

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "Set RINGBACK_TOKEN to an API token.\n"


def test_curl(program: Program) -> None:
    missing = [tool for tool in ("bash", "curl", "jq", "openssl") if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} missing: apt-get install {' '.join(missing)}")
    lines = run_example(["./deliver.sh"], ROOT / "examples/curl", program)
    check_stored(program, ids(lines))
    check_followed(lines)
    check_attempts(lines[8:11])
    assert lines[11:] == ["signature verified"]


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("  EVENT_SUCCEEDED\n", "  EVENT_ENDED_WELL\n", "src/main.ts"),
        ('  cursor: String!\n\n  """Time of', '  place: String!\n\n  """Time of', "cursor"),
    ],
    ids=["a-value-renamed", "a-field-renamed"],
)
def test_a_breaking_schema_change_fails_the_build(tmp_path: Path, before: str, after: str, expected: str) -> None:
    folder = copy_example("typescript-urql", tmp_path)
    schema = (tmp_path / "schema.graphql").read_text()
    assert schema.count(before) == 1
    (tmp_path / "schema.graphql").write_text(schema.replace(before, after))
    done = build(folder)
    assert done.returncode != 0
    assert expected in done.stdout + done.stderr
