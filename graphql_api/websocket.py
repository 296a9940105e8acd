"""GraphQL over a WebSocket: graphql-transport-ws on /graphql, authenticated by connection_init."""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.websockets import WebSocket
from strawberry.asgi import GraphQL
from strawberry.exceptions import ConnectionRejectionError
from strawberry.schema import BaseSchema
from strawberry.subscriptions import GRAPHQL_TRANSPORT_WS_PROTOCOL

from ringback.graphql_api.context import Context, Services

#: Operations that one connection may run at the same time.
MAX_OPERATIONS = 100


class GraphQLOverWebSocket(GraphQL[Context, None]):
    """Serves all operations over one connection. Any origin may connect: what counts is the token, not a cookie."""

    def __init__(self, schema: BaseSchema, services: Services) -> None:
        super().__init__(
            schema,
            graphql_ide=None,
            subscription_protocols=(GRAPHQL_TRANSPORT_WS_PROTOCOL,),
            max_subscriptions_per_connection=MAX_OPERATIONS,
            allowed_origins=("*",),
        )
        self._services = services

    async def get_context(self, request: Request | WebSocket, response: Response | WebSocket) -> Context:
        """The context of one connection; its token comes with connection_init."""
        return Context(self._services)

    async def on_ws_connect(self, context: Context) -> Any:
        """Take connection_init; a connection without a valid token is closed with 4403."""
        context.token = await self._services.bearers.of_connection(context.connection_params)
        if context.token is None:
            raise ConnectionRejectionError
        return await super().on_ws_connect(context)
