"""Subscriptions to the delivery log, each with a document of its own, from a light process.

It prints a line once all run or were refused, and when standard input ends how many messages came, how many
subscriptions were refused, and the first error.
"""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from tests.support.program import Program

HANDSHAKE = (
    "GET /graphql HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Protocol: graphql-transport-ws\r\n\r\n"
)
#: Subscriptions on each connection: one less than the limit, for the query that comes behind them.
PER_CONNECTION = 99
#: Fields of a log entry that need rows of other tables.
_NEXT, _ERROR = b'"type":"next"', b'"type":"error"'
_SMALL = "cursor kind"
_ROWS = "cursor at kind message webhook { id name } event { id status } attempt { id outcome }"


def make_document(number: int, fields: str, padding: int) -> str:
    """Return a subscription that no other number has. `padding` aliases make it long."""
    aliases = " ".join(f"p{alias}_{'x' * 60}: kind" for alias in range(padding))
    selected = {"small": _SMALL, "rows": _ROWS}[fields]
    return f"subscription {{ deliveryLog {{ a{number}: cursor {selected} {aliases} }} }}"


class Subscribers:
    """The running process. `report` has what came, once the block of `subscribe` has ended."""

    def __init__(self) -> None:
        self.report: dict[str, Any] = {}


@contextmanager
def subscribe(
    program: Program, tokens: Sequence[str], count: int, *, fields: str = "small", padding: int = 0
) -> Iterator[Subscribers]:
    """Run `count` subscriptions while the block runs, on connections that take turns with the tokens."""
    command = [
        sys.executable,
        "-m",
        "tests.support.subscribers",
        program.url,
        str(count),
        fields,
        str(padding),
        *tokens,
    ]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    subscribers = Subscribers()
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "ready\n"
        yield subscribers
        subscribers.report = json.loads(process.communicate(timeout=60)[0])
    finally:
        process.kill()
        process.communicate()


class _Connection(asyncio.Protocol):
    """A connection with PER_CONNECTION subscriptions. `ready` is set once the server has read them all."""

    def __init__(self, token: str, documents: Sequence[str], report: dict[str, Any]) -> None:
        self._token = token
        self._documents = documents
        self._report = report
        self._received = b""
        self._is_open = False
        self.ready = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(HANDSHAKE.encode())

    def _subscribe(self) -> None:
        self._send({"type": "connection_init", "payload": {"Authorization": f"Bearer {self._token}"}})
        for number, document in enumerate(self._documents):
            self._send({"type": "subscribe", "id": str(number), "payload": {"query": document}})
        # Documents of one token are checked in order, so this response comes after those of the subscriptions.
        query = f"{{ {self._documents[0].split()[4].rstrip(':')}: __typename }}"
        self._send({"type": "subscribe", "id": "last", "payload": {"query": query}})

    def data_received(self, data: bytes) -> None:
        """Subscribe after the handshake, then count messages. They are not parsed, so that the process stays light."""
        if not self._is_open:
            self._is_open = True
            self._subscribe()
        text = self._received + data
        self._report["messages"] += text.count(_NEXT)
        self._report["refused"] += text.count(_ERROR)
        self._received = text[max(text.rfind(_NEXT) + len(_NEXT), text.rfind(_ERROR) + len(_ERROR), len(text) - 40) :]
        if not self.ready.done() and b'"id":"last"' in text:
            self.ready.set_result(None)
        if _ERROR in text and self._report["error"] is None:
            self._report["error"] = text[text.index(_ERROR) :][:300].decode(errors="replace")

    def _send(self, message: dict[str, Any]) -> None:
        payload = json.dumps(message).encode()
        size = len(payload)
        length = bytes([0x80 | size]) if size < 126 else b"\xfe" + size.to_bytes(2)
        self._transport.write(b"\x81" + length + bytes(4) + payload)


async def _follow(url: str, count: int, fields: str, padding: int, tokens: Sequence[str]) -> None:
    loop = asyncio.get_running_loop()
    where = urlsplit(url)
    report: dict[str, Any] = {"messages": 0, "refused": 0, "error": None}
    connections: list[_Connection] = []
    for number, first in enumerate(range(0, count, PER_CONNECTION)):
        documents = [make_document(n, fields, padding) for n in range(first, min(count, first + PER_CONNECTION))]
        token = tokens[number % len(tokens)]
        make = partial(_Connection, token, documents, report)
        _, connection = await loop.create_connection(make, where.hostname or "", where.port or 0)
        connections.append(connection)
    for connection in connections:
        await connection.ready
    print("ready", flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    print(json.dumps(report), flush=True)


if __name__ == "__main__":
    asyncio.run(_follow(sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4]), sys.argv[5:]))
