"""Listeners that count what the address guard let through, and names that lead to them."""

import asyncio
import ipaddress
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from yarl import URL

from ringback.jobs.http.sender import Sender, SendResult
from ringback.models.security.address_policy import AddressPolicy
from tests.support.outgoing import outgoing
from tests.support.patience import PATIENCE_SECONDS

STRICT = AddressPolicy()
ONLY_127_0_0_1 = AddressPolicy((ipaddress.ip_network("127.0.0.1/32"),))
EVERYTHING = AddressPolicy((ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0")))
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


class Listener:
    """Answers 200 to all requests and counts the connections, which the guard let through."""

    def __init__(self) -> None:
        self.connections = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(ANSWER)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def listening(*hosts: str, port: int = 0) -> AsyncIterator[tuple[Listener, int]]:
    """Listen on all of `hosts`, on one port; hosts that the machine does not have are left out."""
    listener = Listener()
    async with AsyncExitStack() as stack:
        for host in hosts:
            try:
                server = await asyncio.start_server(listener, host, port)
            except OSError:
                continue
            stack.callback(server.close)
            port = server.sockets[0].getsockname()[1]
        yield listener, port


class Names:
    """A resolver whose answers are given, each used once; the last one stays."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self._answers = list(answers)
        self.asked = 0

    async def addresses(self, name: str) -> Sequence[str]:
        self.asked += 1
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]

    async def close(self) -> None:
        pass


async def deliver(sender: Sender, url: str, *, unguarded: bool = False) -> SendResult:
    """Send a GET request of which only status 200 is a success."""
    request = outgoing("GET", URL(url))
    return await sender.send(
        request, timeout_seconds=PATIENCE_SECONDS, accepts=lambda status: status == 200, unguarded=unguarded
    )
