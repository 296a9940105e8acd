"""Clients behind trusted proxies: the address that counts, and the limit on it."""

from pathlib import Path
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from ringback.graphql_api.listener.client_slots import ClientSlots, exempt_client
from ringback.graphql_api.listener.proxied_requests import ProxiedRequests
from ringback.graphql_api.listener.refusals import RefusalLog
from ringback.models import settings


class Served:
    """An application behind the middlewares. During the first request it gets two more, with the statuses `nested`."""

    def __init__(self, *proxies: str, exempt: bool = False) -> None:
        self.clients: list[str | None] = []
        self.nested: list[int] = []
        self.exempt = exempt
        chosen = settings.load_settings(data_dir=Path("unused"), trusted_proxies=",".join(proxies))
        slots = ClientSlots("requests", max_per_client=1, proxies=chosen.trusted_proxies)
        limited: Any = ProxiedRequests(self._serve, slots, RefusalLog())
        self.app: Any = ProxyHeadersMiddleware(limited, [str(network) for network in chosen.trusted_proxies])

    async def ask(self, peer: str, *forwarded: bytes) -> int:
        headers = [(b"x-forwarded-for", value) for value in forwarded]
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        await self.app({"type": "http", "client": (peer, 1), "scheme": "http", "headers": headers}, None, send)
        status: int = sent[0]["status"]
        return status

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.clients.append(scope["client"] and scope["client"][0])
        if self.exempt:
            exempt_client(scope)
        if len(self.clients) == 1:
            self.nested = [await self.ask("10.0.0.1", b"192.0.2.1"), await self.ask("10.0.0.1", b"192.0.2.2")]
        await send({"type": "http.response.start", "status": 200})


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("10.0.0.1", [b"192.0.2.9"], "192.0.2.9"),
        ("10.0.0.1", [b"6.6.6.6, 192.0.2.9"], "192.0.2.9"),
        ("10.0.0.1", [b"6.6.6.6", b"192.0.2.9, 10.0.0.2"], "192.0.2.9"),
        ("10.0.0.1", [b"10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("192.0.2.7", [b"6.6.6.6"], "192.0.2.7"),
        ("10.0.0.1", [b"garbage"], None),
        ("10.0.0.1", [b"6.6.6.6, \xff"], None),
        ("10.0.0.1", [b"[::1"], None),
        ("10.0.0.1", [b"," * 9_000], "10.0.0.1"),
        ("10.0.0.1", [b"192.0.2.9:" + b"9" * 5_000], None),
    ],
)
async def test_the_client_is_the_last_address_that_is_no_proxy(
    peer: str, forwarded: list[bytes], client: str | None
) -> None:
    served = Served("10.0.0.0/8", "::1")
    served.clients.append("so that nothing is nested")

    assert await served.ask(peer, *forwarded) == 200
    assert served.clients[1] == client


async def test_requests_in_progress_are_limited_by_client() -> None:
    served = Served("10.0.0.1")

    assert await served.ask("10.0.0.1", b"192.0.2.1") == 200
    assert served.nested == [429, 200]
    assert await served.ask("10.0.0.1", b"192.0.2.1") == 200


async def test_streams_with_a_token_are_not_limited() -> None:
    served = Served("10.0.0.1", exempt=True)

    assert await served.ask("10.0.0.1", b"192.0.2.1") == 200
    assert served.nested == [200, 200]
