"""Bearer tokens on HTTP and in a WebSocket's connection_init, and again on each operation of a long connection."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

from strawberry.extensions import SchemaExtension

from ringback.graphql_api.context import Context
from ringback.graphql_api.errors import ApiError
from ringback.models import tokens
from ringback.models.access import ApiToken

#: No token is longer; what is cannot be one.
MAX_TOKEN = 512


async def bearer(header: Any) -> ApiToken | None:
    """The token in an `Authorization` value; None when it is missing, malformed or not valid."""
    if not isinstance(header, str):
        return None
    scheme, _, secret = header.strip().partition(" ")
    secret = secret.strip()
    if scheme.lower() != "bearer" or not 0 < len(secret) <= MAX_TOKEN:
        return None
    return await tokens.authenticate(secret)


async def connection_token(params: Mapping[str, Any] | None) -> ApiToken | None:
    """The token in a connection_init payload; the key's case does not matter, as in a header."""
    values = {name.lower(): value for name, value in (params or {}).items() if isinstance(name, str)}
    return await bearer(values.get("authorization"))


class StillAuthenticated(SchemaExtension):
    """Refuses an operation whose connection was opened with a token that is valid no more."""

    async def on_validate(self) -> AsyncIterator[None]:
        """Before anything runs."""
        context = self.execution_context.context
        assert isinstance(context, Context)
        try:
            await context.reauthenticate()
        except ApiError as error:
            self.execution_context.pre_execution_errors = [error]
        yield
