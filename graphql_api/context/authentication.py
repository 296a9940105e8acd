"""Bearer tokens on HTTP and in a WebSocket's connection_init."""

from collections.abc import Mapping
from functools import partial
from typing import Any
from uuid import UUID

from ringback.graphql_api.context.single_flight import SingleFlight, outcome
from ringback.models.api_token import ApiToken
from ringback.models.security.secret_box import hash_token
from ringback.models.services import api_tokens

#: No token is longer; what is cannot be one.
MAX_TOKEN = 512
#: How long a token that was found valid is trusted, in seconds.
TRUSTED_SECONDS = 1.0


class Authenticator:
    """Who bears which token. A token found valid is trusted for a moment, so that a busy client costs no statements.

    Revoking it here ends that at once; in another process it does so within TRUSTED_SECONDS.
    """

    def __init__(self) -> None:
        self._trusted: SingleFlight[str, ApiToken | None] = SingleFlight(
            1_024, TRUSTED_SECONDS, worth_keeping=lambda token: token is not None
        )
        self._checks: SingleFlight[UUID, bool] = SingleFlight(1_024, TRUSTED_SECONDS)

    async def bearer(self, header: Any) -> ApiToken | None:
        """The token in an `Authorization` value; None when it is missing, malformed or not valid."""
        if not isinstance(header, str):
            return None
        scheme, _, secret = header.strip().partition(" ")
        secret = secret.strip()
        if scheme.lower() != "bearer" or not 0 < len(secret) <= MAX_TOKEN:
            return None
        return await outcome(self._trusted.ask(hash_token(secret), partial(api_tokens.authenticate, secret)))

    async def of_connection(self, params: Mapping[str, Any] | None) -> ApiToken | None:
        """The token in a connection_init payload; the key's case does not matter, as in a header."""
        values = {name.lower(): value for name, value in (params or {}).items() if isinstance(name, str)}
        return await self.bearer(values.get("authorization"))

    async def still_valid(self, token: ApiToken) -> bool:
        """Whether a token that was valid once still is; asked by each of a token's subscriptions."""
        return await outcome(self._checks.ask(token.id, partial(api_tokens.is_valid, token.id)))

    def forget(self) -> None:
        """Trust no token without another look: one was revoked."""
        self._trusted.forget()
        self._checks.forget()
