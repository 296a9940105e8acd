"""The limit on clients behind trusted proxies: their connections end at the proxy, so their requests are counted.

uvicorn's ProxyHeadersMiddleware is in front of this, and sets a request's client from `X-Forwarded-For`.
"""

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from ringback.graphql_api.listener.client_slots import ClientSlots, add_slot, name_client
from ringback.graphql_api.listener.refusals import Refusal, RefusalLog


class ProxiedRequests:
    """An ASGI application that limits the requests and WebSocket connections of each client at the same time."""

    def __init__(self, app: ASGIApp, slots: ClientSlots, refusals: RefusalLog) -> None:
        self._app = app
        self._slots = slots
        self._refusals = refusals

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it with 429."""
        host = scope["client"][0] if scope["client"] else None
        if name_client(host) == "":
            # A proxy may forward any text as an address. Nothing else should have to read it.
            scope["client"] = host = None
        slot = self._slots.take(host)
        if isinstance(slot, Refusal):
            self._refusals.add(slot, host)
            response = PlainTextResponse(slot.message, slot.status, slot.headers)
            return await response(scope, receive, send)
        add_slot(scope, slot)
        try:
            await self._app(scope, receive, send)
        finally:
            slot.release()
