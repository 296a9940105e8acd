"""Many lightweight clients that follow the live log, in their own process.

Each connection is an asyncio protocol that does the handshake and parses the server's frames itself: a client library
would use more CPU than the measured server. The process prints "ready" when all are connected. When its standard input
is closed it prints a report as JSON: for each entry when it was written, how many clients got it, and when the first
and the last did. All times are of this machine.
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
#: Connections that are opened concurrently.
MAX_CONNECTING = 50


@dataclass(slots=True)
class Receipts:
    """The arrivals of one entry at all clients."""

    message: bytes
    first: float
    last: float = 0.0
    count: int = 0


class Report:
    """The messages of all connections."""

    def __init__(self) -> None:
        self._receipts: dict[bytes, Receipts] = {}
        self.others: list[str] = []

    def add_message(self, text: bytes) -> None:
        """Count a message of the server."""
        now = time.time()
        start = text.find(_CURSOR)
        if start < 0:
            self.others.append(text.decode())
            return
        start += len(_CURSOR)
        cursor = text[start : text.index(b'"', start)]
        receipts = self._receipts.get(cursor)
        if receipts is None:
            receipts = self._receipts[cursor] = Receipts(text, now)
        receipts.last = now
        receipts.count += 1

    def entries(self) -> list[dict[str, float]]:
        """Return the entries by the time at which they were written."""
        entries = []
        for receipts in self._receipts.values():
            at = json.loads(receipts.message)["payload"]["data"]["deliveryLog"]["at"]
            written = dt.datetime.fromisoformat(at).timestamp()
            entries.append(
                {"written": written, "first": receipts.first, "last": receipts.last, "count": receipts.count}
            )
        return sorted(entries, key=lambda entry: entry["written"])


class Watcher(asyncio.Protocol):
    """A connection with several subscriptions."""

    def __init__(self, report: Report, host: str, token: str, subscriptions: int) -> None:
        self._report = report
        self._host = host
        self._token = token
        self._subscriptions = subscriptions
        self._received = b""
        self._open = self._closing = False
        self.subscribed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the handshake."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's class is not a subclass
        self._transport.write(
            f"GET /graphql HTTP/1.1\r\nHost: {self._host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Protocol: graphql-transport-ws\r\n\r\n".encode()
        )

    def data_received(self, data: bytes) -> None:
        """Handle complete frames, and buffer the rest."""
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
        """Report the loss of a connection."""
        if not self._closing:
            self._report.others.append(f"connection lost: {error}")

    def close(self) -> None:
        """Close the connection."""
        self._closing = True
        self._transport.abort()

    def _frame(self, first: int, payload: bytes) -> None:
        if first == 0x89:
            self._send(0x8A, payload)
        elif first != 0x81:
            self._report.others.append(f"frame {first:#x}: {payload!r}")
        elif payload.startswith(b'{"type":"connection_ack"'):
            for number in range(self._subscriptions):
                message = {"id": str(number), "type": "subscribe", "payload": {"query": QUERY}}
                self._send(0x81, json.dumps(message).encode())
            self.subscribed.set_result(None)
        else:
            self._report.add_message(payload)

    def _send(self, first: int, payload: bytes) -> None:
        size = len(payload)
        length = bytes([0x80 | size]) if size < 126 else b"\xfe" + size.to_bytes(2)
        self._transport.write(bytes([first]) + length + _MASK + payload)


async def watch(host: str, port: int, token: str, connections: int, subscriptions: int) -> None:
    """Follow the log until standard input is closed, then print the report."""
    loop, report = asyncio.get_running_loop(), Report()
    connecting = asyncio.Semaphore(MAX_CONNECTING)

    async def follow() -> Watcher:
        async with connecting:
            _, watcher = await loop.create_connection(
                lambda: Watcher(report, f"{host}:{port}", token, subscriptions), host, port
            )
            await watcher.subscribed
            return watcher

    watchers = await asyncio.gather(*(follow() for _ in range(connections)))
    print("ready", flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    print(json.dumps({"entries": report.entries(), "others": report.others}), flush=True)
    for watcher in watchers:
        watcher.close()


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the arguments and follow the log."""
    parser = argparse.ArgumentParser(prog="bench.watchers")
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("token")
    parser.add_argument("connections", type=int)
    parser.add_argument("subscriptions", type=int, help="on each connection")
    options = parser.parse_args(arguments)
    try:
        import uvloop  # noqa: PLC0415 - not available on Windows
    except ImportError:
        factory = None
    else:
        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(watch(**vars(options)))


if __name__ == "__main__":
    main()
