"""The receivers among the examples: they verify signatures and handle each event once."""

import contextlib
import os
import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.patience import PATIENCE_SECONDS
from tests.support.program import Program
from tests.support.receiver import ALLOW_LOOPBACK

EXAMPLES = Path(__file__).parents[2] / "examples"
CREATE_WEBHOOK = """
mutation($url: String!, $send: Boolean!, $body: String!) {
  createWebhook(input: {
    model: "lead", actions: [CREATED], url: $url, sendJson: $send, bodyTemplate: $body, retryDelaysSeconds: [0]
  }) { webhook { id } signingSecret errors { message } }
}
"""
UPDATE_URL = """
mutation($id: ID!, $url: String!) { updateWebhook(input: {id: $id, url: $url}) { errors { message } } }
"""
TEST_FIRE = """
mutation($id: ID!) {
  testFireWebhook(input: {webhookId: $id, item: {name: "Ada"}}) { event { id } errors { message } }
}
"""
REDELIVER = "mutation($id: ID!) { redeliverEvent(id: $id) { errors { message } } }"
EVENT = "query($id: ID!) { event(id: $id) { status attempts { outcome } } }"


def python_command(folder: Path) -> list[str]:
    shutil.copy(EXAMPLES / "receiver-python" / "main.py", folder)
    return [sys.executable, "main.py"]


def node_command(folder: Path) -> list[str]:
    source = EXAMPLES / "receiver-node"
    if shutil.which("node") is None or not (source / "node_modules").is_dir():
        pytest.skip("Node.js or the packages of examples/receiver-node are missing: make clients")
    for name in ("main.js", "package.json"):
        shutil.copy(source / name, folder)
    (folder / "node_modules").symlink_to(source / "node_modules")
    return ["node", "main.js"]


class Running:
    """A started receiver: its URL, and the lines that it prints."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        first_line = re.fullmatch(r"receiving on (http://127\.0\.0\.1:\d+/)", self.line())
        assert first_line is not None
        self.url = first_line[1]

    def line(self) -> str:
        """The next line."""
        assert self._process.stdout is not None
        return self._process.stdout.readline().rstrip()


@contextlib.contextmanager
def started(command: list[str], folder: Path, secret: str) -> Iterator[Running]:
    env = {**os.environ, "WEBHOOK_SECRET": secret}
    with subprocess.Popen([*command, "0"], cwd=folder, env=env, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Running(process)
        finally:
            process.terminate()


def status_of(url: str, body: bytes, headers: dict[str, str]) -> int:
    """The status that the receiver gives to a request of somebody else."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=PATIENCE_SECONDS) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


@pytest.mark.parametrize("make_command", [python_command, node_command])
def test_a_receiver_asks_for_its_secret(tmp_path: Path, make_command: Callable[[Path], list[str]]) -> None:
    env = {name: value for name, value in os.environ.items() if name != "WEBHOOK_SECRET"}
    command = make_command(tmp_path)
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=PATIENCE_SECONDS)

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "Set WEBHOOK_SECRET to the webhook's signingSecret.\n"


@pytest.mark.parametrize("make_command", [python_command, node_command])
@pytest.mark.parametrize(("send", "body"), [(True, '{"name":"Ada"}'), (False, "name=Ada")])
def test_a_receiver_verifies_and_handles_each_event_once(tmp_path: Path, make_command, send, body) -> None:  # type: ignore[no-untyped-def]
    folder = tmp_path / "receiver"
    folder.mkdir()
    command = make_command(folder)
    with Program(tmp_path / "ringback", env=ALLOW_LOOPBACK) as program:
        variables = {"url": "http://127.0.0.1:1/", "send": send, "body": "name={{ item.name }}"}
        made = program.query(CREATE_WEBHOOK, variables)["createWebhook"]
        webhook = {"id": made["webhook"]["id"]}
        with started(command, folder, made["signingSecret"]) as receiver:
            assert program.query(UPDATE_URL, {**webhook, "url": receiver.url})["updateWebhook"]["errors"] == []

            event = {"id": program.query(TEST_FIRE, webhook)["testFireWebhook"]["event"]["id"]}
            assert receiver.line() == f"{event['id']} lead.created: {body}"

            program.wait_until(lambda: program.query(EVENT, event)["event"]["status"] == "SUCCEEDED", "its success")
            assert program.query(REDELIVER, event)["redeliverEvent"]["errors"] == []
            assert receiver.line() == f"{event['id']} is a duplicate"

            forged = {"webhook-id": "evt_1", "webhook-timestamp": "1767225600", "webhook-signature": "v1,Zm9yZ2Vk"}
            assert status_of(receiver.url, b"{}", forged) == 401
            assert receiver.line() == "refused: Message timestamp too old"
        with started(command, folder, made["signingSecret"]) as receiver:
            program.query(UPDATE_URL, {**webhook, "url": receiver.url})
            program.query(REDELIVER, event)
            assert receiver.line() == f"{event['id']} is a duplicate"
