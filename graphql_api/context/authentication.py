"""Bearer tokens on HTTP and in a WebSocket's connection_init."""

from collections.abc import Mapping
from functools import partial
from typing import Any
from uuid import UUID

from ringback.graphql_api.context.single_flight import SingleFlight, wait_for_result
from ringback.models.api_token import ApiToken
from ringback.models.security.secret_box import hash_token
from ringback.models.services import api_tokens

#: Characters of a token, at most. A longer one is refused without a look-up.
MAX_TOKEN = 512
#: Tokens whose check is cached, at most.
MAX_CACHED_TOKENS = 1_024
#: Seconds for which a valid token is trusted without another look-up.
TRUSTED_SECONDS = 1.0


class Authenticator:
    """Look-ups of bearer tokens. A valid token is trusted for TRUSTED_SECONDS, so a busy client costs few statements.

    Revoking a token takes effect at once in this process, and within TRUSTED_SECONDS in others.
    """

    def __init__(self) -> None:
        self._tokens: SingleFlight[str, ApiToken | None] = SingleFlight(
            MAX_CACHED_TOKENS, TRUSTED_SECONDS, cache_if=_is_found
        )
        self._validity: SingleFlight[UUID, bool] = SingleFlight(MAX_CACHED_TOKENS, TRUSTED_SECONDS)

    async def authenticate(self, header: Any) -> ApiToken | None:
        """Return the token of an `Authorization` value, or None if it is missing, malformed or not valid."""
        secret = find_bearer_token(header)
        if secret is None or len(secret) > MAX_TOKEN:
            return None
        return await wait_for_result(self._tokens.run(hash_token(secret), partial(api_tokens.authenticate, secret)))

    async def authenticate_connection(self, params: Mapping[str, Any] | None) -> ApiToken | None:
        """Return the token of a connection_init payload. Its keys are case-insensitive, like header names."""
        values = {name.lower(): value for name, value in (params or {}).items() if isinstance(name, str)}
        return await self.authenticate(values.get("authorization"))

    async def is_still_valid(self, token: ApiToken) -> bool:
        """Return whether a token is neither revoked nor expired. All subscriptions of the token share the look-up."""
        return await wait_for_result(self._validity.run(token.id, partial(api_tokens.is_valid, token.id)))

    def forget(self) -> None:
        """Look up every token again, because one was revoked."""
        self._tokens.forget()
        self._validity.forget()


def find_bearer_token(header: Any) -> str | None:
    """Return the bearer token in an `Authorization` value, or None if it has none."""
    if not isinstance(header, str):
        return None
    scheme, _, secret = header.strip().partition(" ")
    if scheme.lower() != "bearer":
        return None
    return secret.strip() or None


def _is_found(token: ApiToken | None) -> bool:
    return token is not None
