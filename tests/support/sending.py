"""Sends requests to a test's own servers on loopback, and resolves names to them."""

import asyncio
import ipaddress
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from yarl import URL

from ringback.jobs.http.error_mapping import LookupFailed
from ringback.jobs.http.request import Headers
from ringback.jobs.http.sender import Sender, SendResult
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
) -> SendResult:
    """Send a request; only status 200 is a success."""
    request = outgoing(method, url, headers, body)
    return await sender.send(request, timeout_seconds=timeout_seconds, accepts=lambda status: status == 200)


async def deliver_too_late(
    sender: Sender, url: URL, far_enough: Callable[[SendResult], bool]
) -> tuple[SendResult, float]:
    """Send a request that must time out; returns the result and the timeout in seconds.

    On a slow machine a short timeout may pass before the request is `far_enough`. Then it is sent again with a longer
    one.
    """
    for seconds in (0.3, 1.0, 4.0, 16.0):
        sent = await deliver(sender, url, timeout_seconds=seconds)
        if far_enough(sent):
            break
    return sent, seconds


async def outcome_from(sender: Sender, server: Server, method: str = "POST") -> Outcome:
    """Start a server, and return the outcome of one request to it."""
    async with server.running():
        return (await deliver(sender, server.url, method=method)).outcome


class Names:
    """A fake resolver: every name is 127.0.0.1, except one that hangs and one that is unknown."""

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
    """Reserve a port that refuses connections while the block runs."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]
