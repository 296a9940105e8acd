"""The composition root of the API: services, tailer and routes."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from tortoise.exceptions import BaseORMException

from ringback.graphql_api import graphiql
from ringback.graphql_api.authentication import Bearers
from ringback.graphql_api.context import Services
from ringback.graphql_api.execution import Engine
from ringback.graphql_api.http import GraphQLOverHTTP
from ringback.graphql_api.inbox_http import InboxEndpoint
from ringback.graphql_api.limits import Limits
from ringback.graphql_api.schema import schema
from ringback.graphql_api.tailer import Tailer
from ringback.graphql_api.websocket import GraphQLOverWebSocket
from ringback.models import log
from ringback.models.addresses import AddressPolicy
from ringback.models.inboxes import InboxAddresses, Inboxes
from ringback.models.secrets import SecretBox
from ringback.models.settings import Settings
from ringback.models.webhooks import Webhooks

#: Of /graphql.
METHODS = ("GET", "HEAD", "OPTIONS", "POST")


@contextlib.asynccontextmanager
async def application(settings: Settings, *, public_url: str, secrets: SecretBox) -> AsyncIterator[Starlette]:
    """The ASGI application on an open database and the running loop."""
    addresses = InboxAddresses(public_url)
    policy = AddressPolicy(settings.dangerous_allow_networks)
    services = Services(
        webhooks=Webhooks(policy, addresses, secrets),
        inboxes=Inboxes(secrets),
        inbox_addresses=addresses,
        tailer=Tailer(await log.epoch()),
        bearers=Bearers(),
    )
    async with contextlib.AsyncExitStack() as stack:
        tailing = asyncio.create_task(services.tailer.run())
        stack.push_async_callback(_stop, tailing)
        engine = Engine(schema, Limits.of(settings))
        stack.callback(engine.close)
        yield routes(services, engine)


def routes(services: Services, engine: Engine) -> Starlette:
    """The ASGI application of these services."""
    over_http = GraphQLOverHTTP(engine, services)
    over_websocket = GraphQLOverWebSocket(schema, services)
    # Browsers on other sites may call the API: what counts is the bearer token, which no browser sends by itself.
    cors = Middleware(
        CORSMiddleware,
        allow_origins=["*"],
        allow_methods=["POST"],
        allow_headers=["Authorization", "Content-Type"],
        max_age=3600,
    )

    async def graphql(request: Request) -> Response:
        if request.method == "POST":
            return await over_http.post(request)
        if request.method == "OPTIONS":
            return Response(status_code=204, headers={"Allow": ", ".join(METHODS)})
        return await graphiql.page(request)

    return Starlette(
        routes=[
            Route("/graphql", graphql, methods=list(METHODS), middleware=[cors]),
            WebSocketRoute("/graphql", over_websocket),
            Mount(graphiql.PREFIX, graphiql.Assets()),
            Route("/inbox/{token}", InboxEndpoint(services.inboxes)),
            Route("/healthz", _healthz, methods=["GET"]),
            Route("/readyz", _readyz, methods=["GET"]),
        ],
        exception_handlers={404: _not_found},
    )


async def _healthz(request: Request) -> Response:
    """The process is alive."""
    return PlainTextResponse("ok\n")


async def _readyz(request: Request) -> Response:
    """The process can serve: its database answers."""
    try:
        await log.epoch()
    except BaseORMException as error:
        return JSONResponse({"ready": False, "reason": f"the database does not answer: {error}"}, 503)
    return JSONResponse({"ready": True})


async def _not_found(request: Request, error: Exception) -> Response:
    return PlainTextResponse("Nothing is here. The API and GraphiQL are at /graphql.\n", 404)


async def _stop(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
