"""Sending requests to a test's own servers on loopback, and names that lead to them."""

import asyncio
import ipaddress
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from yarl import URL

from ringback.jobs.http.error_mapping import LookupFailed
from ringback.jobs.http.request import Headers
from ringback.jobs.http.sender import Sender, Sent
from ringback.jobs.outcomes import Outcome
from ringback.models.security.address_policy import AddressPolicy
from tests.support.http_server import Server
from tests.support.outgoing import outgoing
from tests.support.patience import PATIENCE_SECONDS

LOOPBACK = AddressPolicy((ipaddress.ip_network("127.0.0.0/8"),))


async def deliver(
    sender: Sender,
    url: URL,
    *,
    method: str = "POST",
    headers: Headers = (),
    body: bytes | None = b"x",
    timeout_seconds: float = PATIENCE_SECONDS,
) -> Sent:
    """Send a request of which only status 200 is a success."""
    request = outgoing(method, url, headers, body)
    return await sender.send(request, timeout_seconds=timeout_seconds, accepts=lambda status: status == 200)


async def deliver_too_late(sender: Sender, url: URL, far_enough: Callable[[Sent], bool]) -> tuple[Sent, float]:
    """Send a request that must time out, and return how that ended and the limit in seconds.

    A slow machine may use up a short limit before the request has come far enough. It is sent again with a longer limit
    then.
    """
    for seconds in (0.3, 1.0, 4.0, 16.0):
        sent = await deliver(sender, url, timeout_seconds=seconds)
        if far_enough(sent):
            break
    return sent, seconds


async def outcome_from(sender: Sender, server: Server, method: str = "POST") -> Outcome:
    """Start a server and return how a request to it ends."""
    async with server.running():
        return (await deliver(sender, server.url, method=method)).outcome


class Names:
    """A resolver to which every name is 127.0.0.1, but for one that hangs and one that is unknown."""

    async def addresses(self, name: str) -> Sequence[str]:
        if name == "hangs.example":
            await asyncio.Event().wait()
        if name == "nohost.example":
            raise LookupFailed(f"The name {name} does not resolve.")
        return ["127.0.0.1"]

    async def close(self) -> None:
        pass


@contextmanager
def refusing_port() -> Iterator[int]:
    """Keep a port on which nobody listens, and on which nobody else can begin to listen while the block runs."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]
