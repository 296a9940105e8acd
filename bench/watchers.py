"""Clients that follow the live log, in a process of their own: many, and lean.

Each connection is a plain protocol of asyncio that does the handshake and reads the server's frames itself; a client
library would take more of the processor than the server that is measured. The process says "ready" when all are
connected, and prints what it noted as JSON when its standard input is closed: for each entry when it was written, how
many got it, and when the first and the last of them did. All clocks are this machine's.
"""

import argparse
import asyncio
import datetime as dt
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

QUERY = """subscription DeliveryLog {
  deliveryLog {
    cursor at kind message
    webhook { id name }
    event { id status attemptCount nextAttemptAt }
    attempt { id number outcome statusCode durationMs }
  }
}"""
_MASK = bytes(4)
_CURSOR = b'"cursor":"'
#: Connections that are opened at the same time.
AT_A_TIME = 50


@dataclass(slots=True)
class Got:
    """One entry, as the first got it, and who else did."""

    message: bytes
    first: float
    last: float = 0.0
    count: int = 0


class Notes:
    """What came over all connections."""

    def __init__(self) -> None:
        self._got: dict[bytes, Got] = {}
        self.others: list[str] = []

    def message(self, text: bytes) -> None:
        """A message of the server."""
        now = time.time()
        start = text.find(_CURSOR)
        if start < 0:
            self.others.append(text.decode())
            return
        start += len(_CURSOR)
        cursor = text[start : text.index(b'"', start)]
        got = self._got.get(cursor)
        if got is None:
            got = self._got[cursor] = Got(text, now)
        got.last = now
        got.count += 1

    def entries(self) -> list[dict[str, float]]:
        """The entries in their order; when each was written is what it says itself."""
        entries = []
        for got in self._got.values():
            at = json.loads(got.message)["payload"]["data"]["deliveryLog"]["at"]
            written = dt.datetime.fromisoformat(at).timestamp()
            entries.append({"written": written, "first": got.first, "last": got.last, "count": got.count})
        return sorted(entries, key=lambda entry: entry["written"])


class Watcher(asyncio.Protocol):
    """One connection with some subscriptions."""

    def __init__(self, notes: Notes, host: str, token: str, subscriptions: int) -> None:
        self._notes = notes
        self._host = host
        self._token = token
        self._subscriptions = subscriptions
        self._received = b""
        self._open = self._closing = False
        self.subscribed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Shake hands."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by its class
        self._transport.write(
            f"GET /graphql HTTP/1.1\r\nHost: {self._host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Protocol: graphql-transport-ws\r\n\r\n".encode()
        )

    def data_received(self, data: bytes) -> None:
        """Read what is whole."""
        received = self._received + data if self._received else data
        at = 0
        if not self._open:
            end = received.find(b"\r\n\r\n")
            if end < 0:
                self._received = received
                return
            assert received.startswith(b"HTTP/1.1 101 "), received[:200]
            self._open, at = True, end + 4
            payload = {"Authorization": f"Bearer {self._token}"}
            self._send(0x81, json.dumps({"type": "connection_init", "payload": payload}).encode())
        length = len(received)
        while at + 2 <= length:
            size, start = received[at + 1], at + 2
            if size == 126:
                size, start = int.from_bytes(received[at + 2 : at + 4]), at + 4
            elif size == 127:
                size, start = int.from_bytes(received[at + 2 : at + 10]), at + 10
            if start + size > length or start > length:
                break
            self._frame(received[at], received[start : start + size])
            at = start + size
        self._received = received[at:]

    def connection_lost(self, error: Exception | None) -> None:
        """Note it: none is to be lost."""
        if not self._closing:
            self._notes.others.append(f"connection lost: {error}")

    def close(self) -> None:
        """Hang up."""
        self._closing = True
        self._transport.abort()

    def _frame(self, first: int, payload: bytes) -> None:
        if first == 0x89:
            self._send(0x8A, payload)
        elif first != 0x81:
            self._notes.others.append(f"frame {first:#x}: {payload!r}")
        elif payload.startswith(b'{"type":"connection_ack"'):
            for number in range(self._subscriptions):
                message = {"id": str(number), "type": "subscribe", "payload": {"query": QUERY}}
                self._send(0x81, json.dumps(message).encode())
            self.subscribed.set_result(None)
        else:
            self._notes.message(payload)

    def _send(self, first: int, payload: bytes) -> None:
        size = len(payload)
        length = bytes([0x80 | size]) if size < 126 else b"\xfe" + size.to_bytes(2)
        self._transport.write(bytes([first]) + length + _MASK + payload)


async def watch(host: str, port: int, token: str, connections: int, subscriptions: int) -> None:
    """Follow until standard input ends."""
    loop, notes = asyncio.get_running_loop(), Notes()
    free = asyncio.Semaphore(AT_A_TIME)

    async def follow() -> Watcher:
        async with free:
            _, watcher = await loop.create_connection(
                lambda: Watcher(notes, f"{host}:{port}", token, subscriptions), host, port
            )
            await watcher.subscribed
            return watcher

    watchers = await asyncio.gather(*(follow() for _ in range(connections)))
    print("ready", flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    print(json.dumps({"entries": notes.entries(), "others": notes.others}), flush=True)
    for watcher in watchers:
        watcher.close()


def main(arguments: Sequence[str] | None = None) -> None:
    """Follow as the arguments say."""
    parser = argparse.ArgumentParser(prog="bench.watchers")
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("token")
    parser.add_argument("connections", type=int)
    parser.add_argument("subscriptions", type=int, help="on each connection")
    options = parser.parse_args(arguments)
    try:
        import uvloop  # noqa: PLC0415 - there is none for Windows
    except ImportError:
        factory = None
    else:
        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as running:
        running.run(watch(**vars(options)))


if __name__ == "__main__":
    main()
