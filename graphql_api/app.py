"""The ASGI application: its services, engine, live log and routes."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from functools import partial

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.types import Receive, Scope, Send

from ringback.graphql_api.context.authentication import Authenticator
from ringback.graphql_api.context.live_log import Tailer
from ringback.graphql_api.context.request_context import Services
from ringback.graphql_api.execution.engine import Engine
from ringback.graphql_api.execution.operation_limits import OperationLimits
from ringback.graphql_api.schema.build import schema
from ringback.graphql_api.transport import graphiql
from ringback.graphql_api.transport.content_negotiation import negotiate
from ringback.graphql_api.transport.health import Readiness, report_health
from ringback.graphql_api.transport.http import GraphQLEndpoint
from ringback.graphql_api.transport.inbox import InboxEndpoint
from ringback.graphql_api.transport.streaming import Streams
from ringback.graphql_api.transport.websocket import serve_connection
from ringback.models import delivery_log
from ringback.models.background_tasks import end_tasks
from ringback.models.security.address_policy import AddressPolicy
from ringback.models.security.inbox_addresses import InboxAddresses
from ringback.models.security.secret_box import SecretBox
from ringback.models.services.inboxes import Inboxes, InboxLimits
from ringback.models.services.webhooks import Webhooks
from ringback.models.settings import Settings

#: With a slash at the end, too: a redirect would send the client to the host that its request names.
PATHS = frozenset({graphiql.API, f"{graphiql.API}/"})


class Application:
    """The ASGI application. GraphQL requests are dispatched here, all others by Starlette's router."""

    def __init__(self, services: Services, engine: Engine, pages: graphiql.Pages | None = None) -> None:
        self._pages = pages or graphiql.Pages()
        self._streams = Streams()
        self._graphql = GraphQLEndpoint(engine, services, self._streams, self._pages)
        self._websockets = partial(serve_connection, engine, services)
        assets = graphiql.Assets()
        self._router = Starlette(
            routes=[
                Route("/", self._redirect_to_graphiql),
                Mount(graphiql.PREFIX, assets),
                Route("/favicon.ico", assets.favicon),
                Route("/inbox/{token}", InboxEndpoint(services.inboxes)),
                Route("/healthz", report_health, methods=["GET"]),
                Route("/readyz", Readiness().report, methods=["GET"]),
            ],
            exception_handlers={404: self._answer_not_found},
        )
        self._router.router.redirect_slashes = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer an HTTP request, or serve a WebSocket connection."""
        if scope["path"] not in PATHS:
            await self._router(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._websockets(scope, receive, send)
        else:
            await self._graphql(scope, receive, send)

    def end_streams(self) -> None:
        """End the open streams, which have no end of their own, so that the server can stop."""
        self._streams.end()

    async def _redirect_to_graphiql(self, request: Request) -> Response:
        """Redirect browsers to GraphiQL."""
        if not _is_browser(request):
            raise HTTPException(404)
        return RedirectResponse(graphiql.API, headers=self._pages.headers(request.scope))

    async def _answer_not_found(self, request: Request, error: Exception) -> Response:
        if _is_browser(request):
            return self._pages.not_found(request.scope)
        text = "Not found. The GraphQL API and GraphiQL are at /graphql.\n"
        return PlainTextResponse(text, 404, headers={"Vary": "Accept"})


@contextlib.asynccontextmanager
async def open_application(settings: Settings, *, public_url: str, secrets: SecretBox) -> AsyncIterator[Application]:
    """Make the application on an open database, and run its tailer in the running loop while the block runs."""
    addresses = InboxAddresses(public_url)
    policy = AddressPolicy(settings.dangerous_allow_networks, settings.allow_ports)
    services = Services(
        webhooks=Webhooks(policy, addresses, secrets),
        inboxes=Inboxes(secrets, InboxLimits.of(settings)),
        inbox_addresses=addresses,
        tailer=Tailer(await delivery_log.read_epoch()),
        authenticator=Authenticator(),
    )
    async with contextlib.AsyncExitStack() as stack:
        tailer_task = asyncio.create_task(services.tailer.run())
        stack.push_async_callback(end_tasks, tailer_task)
        engine = Engine(schema, OperationLimits.of(settings))
        stack.callback(engine.close)
        yield Application(services, engine, graphiql.Pages(settings.public_url))


def _is_browser(request: Request) -> bool:
    """Return whether the client prefers a page. Most API clients accept `*/*`."""
    accept = ",".join(request.headers.getlist("accept"))
    return negotiate(accept.encode("latin-1")).page_with_query
