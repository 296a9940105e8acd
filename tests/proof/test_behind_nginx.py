"""The configuration of docs/operations.md behind a real nginx: WebSockets and Server-Sent Events arrive at once."""

import asyncio
import re
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from gql import Client, gql
from gql.transport.websockets import WebsocketsTransport

from tests.support.firing import FIRE, webhook_to_inbox
from tests.support.patience import PATIENCE_SECONDS
from tests.support.program import Program
from tests.support.servers import free_port, wait_for

PAGE = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
LOCATION, MAP = re.findall(
    r"```nginx\n(.*?)```", PAGE.split("<!-- nginx -->")[1].split("<!-- /nginx -->")[0], re.DOTALL
)
CONFIGURATION = """
daemon off;
user root;
pid {folder}/pid;
error_log {folder}/error.log;
events {{ }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {map}
    server {{ listen 127.0.0.1:{port}; {location} }}
}}
"""
SUBSCRIPTION = "subscription { deliveryLog { kind } }"


@pytest.fixture
def nginx(program: Program, tmp_path: Path) -> Iterator[str]:
    """The URL of an nginx in front of the program."""
    executable = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if executable is None:
        pytest.skip("nginx is missing: apt-get install nginx")
    port = free_port()
    location = LOCATION.replace("http://127.0.0.1:8000", program.url)
    assert program.url in location
    configuration = tmp_path / "nginx.conf"
    configuration.write_text(CONFIGURATION.format(folder=tmp_path, map=MAP, port=port, location=location))
    process = subprocess.Popen([executable, "-p", str(tmp_path), "-c", str(configuration)], stderr=subprocess.DEVNULL)
    try:
        wait_for(port, process)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(PATIENCE_SECONDS)


async def test_a_websocket_is_passed_on(program: Program, nginx: str) -> None:
    webhook_id = webhook_to_inbox(program)
    transport = WebsocketsTransport(
        url=nginx.replace("http", "ws", 1) + "/graphql",
        init_payload={"Authorization": f"Bearer {program.token}"},
        subprotocols=["graphql-transport-ws"],
    )

    async with asyncio.timeout(PATIENCE_SECONDS), Client(transport=transport) as session:
        entries = session.subscribe(gql(SUBSCRIPTION))

        async def wait_for_event() -> None:
            # The subscription may start between an event and its attempt, whose entry comes first then.
            async for entry in entries:
                if entry == {"deliveryLog": {"kind": "EVENT_RECORDED"}}:
                    return

        recorded = asyncio.ensure_future(wait_for_event())
        while not recorded.done():
            await asyncio.to_thread(program.query, FIRE, {"id": webhook_id})
            await asyncio.wait([recorded], timeout=1)
        await recorded
        await entries.aclose()


def test_server_sent_events_are_not_buffered(program: Program, nginx: str) -> None:
    webhook_id = webhook_to_inbox(program)
    headers = {
        "Authorization": f"Bearer {program.token}",
        "Accept": "text/event-stream",
        "Content-Type": "application/json",
    }
    body = b'{"query": "%s"}' % SUBSCRIPTION.encode()

    with urllib.request.urlopen(
        urllib.request.Request(f"{nginx}/graphql", body, headers), timeout=PATIENCE_SECONDS
    ) as stream:
        assert stream.readline() == b":\n"
        program.query(FIRE, {"id": webhook_id})
        lines = iter(stream.readline, b"")
        event = next(line for line in lines if line.startswith(b"data:"))

    assert b'"kind":"EVENT_RECORDED"' in event or b'"kind":"ATTEMPT_FINISHED"' in event
