"""npm's tools for GraphQL over HTTP with the started program.

They are the audits of graphql-http, the client graphql-sse, and Apollo Client with multipart subscriptions.
"""

import json
import os
import re
import select
import shutil
import socket
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest

from tests.support.firing import KINDS, check_a_test_fire, fire, of_another_database, oldest_cursor, webhook_to_inbox
from tests.support.patience import PATIENCE_SECONDS
from tests.support.program import Program

CLIENTS = Path(__file__).parent.parent / "clients"
PAGE = (Path(__file__).parents[2] / "docs" / "clients.md").read_text()


@contextmanager
def run_script(
    program: Program, script: str, *arguments: str, token: str | None = None
) -> Iterator["subprocess.Popen[str]"]:
    """Run a script of tests/clients under node while the block runs, on /graphql with the operator's token."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("Node.js is missing: apt-get install nodejs npm")
    if not (CLIENTS / "node_modules/graphql-sse").is_dir():
        pytest.skip("the npm clients are not installed: make clients")
    command = [node, str(CLIENTS / script), f"{program.url}/graphql", *arguments]
    env = {**os.environ, "RINGBACK_TOKEN": token or program.token}
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def remaining_lines(process: "subprocess.Popen[str]") -> list[Any]:
    """Return all lines that the process still prints, once it has ended."""
    output, _ = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0
    return [json.loads(line) for line in output.splitlines()]


def next_line(process: "subprocess.Popen[str]") -> Any:
    assert process.stdout is not None
    return json.loads(process.stdout.readline())


def test_all_audits_of_graphql_http_pass(program: Program) -> None:
    with run_script(program, "graphql_http_audit.mjs") as process:
        audits = remaining_lines(process)
    assert [audit for audit in audits if audit["status"] != "ok"] == []
    assert Counter(audit["name"].split()[0] for audit in audits) == {"MUST": 13, "SHOULD": 23, "MAY": 25}


def test_graphql_sse_follows_and_resumes(program: Program) -> None:
    webhook_id = webhook_to_inbox(program)
    with run_script(program, "live_log_sse.mjs", "1", oldest_cursor(program)) as process:
        assert next_line(process) == {
            "answered": {"viewer": {"token": {"name": "RINGBACK_ADMIN_TOKEN", "role": "ADMIN"}}}
        }
        assert next_line(process) == {"connected": True}
        seen_event = fire(program, webhook_id)
        (seen,) = remaining_lines(process)
    missed_event = fire(program, webhook_id)
    with run_script(program, "live_log_sse.mjs", str(2 * len(KINDS) - 1), seen["entry"]["cursor"]) as process:
        entries = [seen["entry"], *(printed["entry"] for printed in remaining_lines(process) if "entry" in printed)]
    for event in (seen_event, missed_event):
        check_a_test_fire([entry for entry in entries if entry["event"]["id"] == event], event)


def test_graphql_sse_gets_the_code_of_a_refused_cursor(program: Program) -> None:
    for after, code in (("garbage", "BAD_USER_INPUT"), (of_another_database(), "CURSOR_EXPIRED")):
        with run_script(program, "live_log_sse.mjs", "1", after) as process:
            *_, refused, completed = remaining_lines(process)
        ((error),) = refused["errors"]
        assert (error["extensions"]["code"], error["path"]) == (code, ["deliveryLog"])
        assert completed == {"completed": True}


def test_graphql_sse_without_a_valid_token(program: Program) -> None:
    with run_script(program, "live_log_sse.mjs", "1", token="rbk_wrong") as process:
        assert remaining_lines(process) == [{"failed": 401}, {"failed": 401}]


def without_typenames(value: Any) -> Any:
    """Remove the `__typename` fields, which Apollo Client requests everywhere."""
    if isinstance(value, dict):
        return {key: without_typenames(inner) for key, inner in value.items() if key != "__typename"}
    return value


def test_apollo_client_follows_over_multipart_and_gets_refusals(program: Program) -> None:
    webhook_id = webhook_to_inbox(program)
    event = fire(program, webhook_id)
    with run_script(program, "live_log_multipart.mjs", str(len(KINDS)), oldest_cursor(program)) as process:
        answered, *entries = remaining_lines(process)
    assert answered["answered"]["viewer"]["token"]["name"] == "RINGBACK_ADMIN_TOKEN"
    check_a_test_fire([without_typenames(printed["entry"]) for printed in entries], event)
    with run_script(program, "live_log_multipart.mjs", "1", "garbage") as process:
        _, refused = remaining_lines(process)
    ((error),) = refused["protocolErrors"]
    assert (error["extensions"]["code"], error["path"]) == ("BAD_USER_INPUT", ["deliveryLog"])


def curls(program: Program) -> list[str]:
    """The examples with curl in docs/clients.md of each transport, for this program."""
    if shutil.which("curl") is None:
        pytest.skip("curl is missing: apt-get install curl")
    section = PAGE.split("<!-- transports -->")[1].split("<!-- /transports -->")[0]
    here = section.replace("http://127.0.0.1:8000", program.url).replace("$(cat .ringback/admin-token)", program.token)
    return re.findall(r"```sh\n(curl .*?)```", here, re.DOTALL)


def test_the_page_shows_curl(program: Program) -> None:
    query, subscription = curls(program)
    webhook_id = webhook_to_inbox(program)
    answer = subprocess.run(["bash", "-c", query], capture_output=True, check=True, timeout=PATIENCE_SECONDS).stdout
    token = {"name": "RINGBACK_ADMIN_TOKEN", "role": "ADMIN"}
    assert json.loads(answer) == {"data": {"viewer": {"token": token}}}
    with subprocess.Popen(["bash", "-c", f"exec {subscription}"], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert [process.stdout.readline() for _ in range(2)] == [":\n", "\n"]
            event_ids = [fire(program, webhook_id)]
            # The first line means that the stream is open, not that the subscription has started.
            while not select.select([process.stdout], [], [], 5.0)[0]:
                event_ids.append(fire(program, webhook_id))
            name, data = process.stdout.readline(), process.stdout.readline()
        finally:
            process.kill()
    assert name == "event: next\n"
    entry = json.loads(data.removeprefix("data: "))["data"]["deliveryLog"]
    assert entry["kind"] in KINDS
    assert entry["event"]["id"] in event_ids


def test_clients_retry_streams_that_a_stop_ended(own_program: Program) -> None:
    """Streams end without `complete`, which graphql-sse treats as a network error and retries."""
    with run_script(own_program, "live_log_sse.mjs", "1") as process:
        assert [list(next_line(process)) for _ in range(2)] == [["answered"], ["connected"]]
        assert own_program.stop() == 0
        assert remaining_lines(process) == [{"failed": "Connection closed while having active streams"}]
    own_program.start()
    fire(own_program, webhook_to_inbox(own_program))
    with run_script(own_program, "live_log_multipart.mjs", "99", oldest_cursor(own_program)) as process:
        assert [list(next_line(process)) for _ in range(2)] == [["answered"], ["entry"]]
        assert own_program.stop() == 0
        assert remaining_lines(process)[-1] == {"failed": "premature end of multipart body"}
    assert "Traceback" not in own_program.log()
    assert "Exception" not in own_program.log()


def test_a_client_that_does_not_read_does_not_delay_a_stop(own_program: Program) -> None:
    """Some 15 MB wait for the client, more than the sockets' buffers hold."""
    webhook_id = webhook_to_inbox(own_program)
    lengthen = "mutation ($input: UpdateWebhookInput!) { updateWebhook(input: $input) { errors { message } } }"
    updated = own_program.query(lengthen, {"input": {"id": webhook_id, "bodyTemplate": "x" * 16_000}})
    assert updated == {"updateWebhook": {"errors": []}}
    copies = " ".join(f"copy{number}: bodyTemplate" for number in range(32))
    document = f"subscription {{ deliveryLog {{ webhook {{ {copies} }} }} }}"
    where = urlsplit(own_program.url)
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        client.connect((where.hostname, where.port))
        client.sendall(
            f"GET /graphql?{urlencode({'query': document})} HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n"
            f"Authorization: Bearer {own_program.token}\r\n\r\n".encode()
        )
        assert client.recv(100).startswith(b"HTTP/1.1 200 OK\r\n")
        for _ in range(10):
            fire(own_program, webhook_id)
        events = "{ events { nodes { status } } }"
        own_program.wait_until(
            lambda: {event["status"] for event in own_program.query(events)["events"]["nodes"]} == {"SUCCEEDED"},
            "the deliveries",
        )
        assert own_program.stop() == 0
    assert [line for line in own_program.log().splitlines() if '"level":"error"' in line] == []
