"""The operator's limits on operations, and the errors for exceeding them."""

from dataclasses import dataclass
from typing import Self

from ringback.graphql_api.errors import ApiError
from ringback.graphql_api.listener.config import limit_connections
from ringback.models.settings import Settings

#: Seconds after which a client may send a refused document again.
RETRY_AFTER_SECONDS = 1

#: Times the bytes of a request that the WebSocket messages of one token may take together.
MESSAGES_FACTOR = 8

#: One part in so many of the connections of the process may be WebSocket connections and streams of the same token.
CONNECTIONS_SHARE = 4


@dataclass(frozen=True, slots=True)
class OperationLimits:
    """The limits from the settings RINGBACK_API_MAX_….

    `body_bytes` and `tokens` limit a request and its document, `depth` levels of fields, `cost` objects read,
    `response_bytes` what is read and returned.
    `introspection` says whether clients may read the schema, also by the suggestions in errors.
    `subscription_tokens` limits the GraphQL tokens in the documents and variables of an API token's subscriptions.
    `connections_per_token` limits its WebSocket connections and streams: one token must leave room for the others.
    `limit_total` gives the limits on subscriptions and connections of all tokens together.
    """

    body_bytes: int = 1_048_576
    tokens: int = 5_000
    depth: int = 20
    aliases: int = 100
    root_fields: int = 50
    cost: int = 10_000
    response_bytes: int = 16_777_216
    subscriptions_per_connection: int = 100
    subscriptions_per_token: int = 3_000
    introspection: bool = True
    subscription_tokens: int = 45_000
    connections_per_token: int = 2_500

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Return the limits that the settings give."""
        return cls(
            body_bytes=settings.api_max_body_bytes,
            tokens=settings.api_max_tokens,
            depth=settings.api_max_depth,
            aliases=settings.api_max_aliases,
            root_fields=settings.api_max_root_fields,
            cost=settings.api_max_cost,
            response_bytes=settings.api_max_response_bytes,
            subscriptions_per_connection=settings.api_max_subscriptions_per_connection,
            subscriptions_per_token=settings.api_max_subscriptions_per_token,
            introspection=settings.api_introspection,
            subscription_tokens=settings.api_max_subscription_tokens,
            connections_per_token=limit_connections(settings) // CONNECTIONS_SHARE,
        )

    @property
    def message_bytes(self) -> int:
        """Bytes of memory that a token's WebSocket messages may take together until their operations have them."""
        return MESSAGES_FACTOR * self.body_bytes


def limit_total(per_token: int) -> int:
    """Return the limit for all tokens together, a third more than for one: a holder of a token can create others."""
    return per_token + (per_token + 2) // 3


def limit_exceeded(limit: str, allowed: int, message: str) -> ApiError:
    """Return the error for exceeding a limit. `limit` is its name for programs, `extensions.limit`."""
    return ApiError("LIMIT_EXCEEDED", message, limit=limit, allowed=allowed)


def too_deep(limits: OperationLimits) -> ApiError:
    """Return the error for a document that is nested too deeply to be measured."""
    message = f"The document is nested too deeply; {limits.depth:,} levels are allowed (RINGBACK_API_MAX_DEPTH)."
    return limit_exceeded("depth", limits.depth, message)


def too_many_documents(limits: OperationLimits) -> ApiError:
    """Return the error for a new document whose token has too much waiting."""
    allowed = limits.body_bytes
    message = (
        f"New documents of this token are waiting to be checked, in requests of more than {allowed:,} bytes together, "
        "the limit, RINGBACK_API_MAX_BODY_BYTES. Try again later, and use variables, so that documents repeat."
    )
    return ApiError(
        "TOO_MANY_REQUESTS", message, limit="waitingBytes", allowed=allowed, retryAfterSeconds=RETRY_AFTER_SECONDS
    )


def too_many_messages(limits: OperationLimits) -> ApiError:
    """Return the error for a WebSocket message whose token has too many that wait or are executed."""
    allowed = limits.message_bytes
    message = (
        f"The WebSocket messages of this token take more than {allowed:,} bytes together, the limit, "
        f"{MESSAGES_FACTOR} times RINGBACK_API_MAX_BODY_BYTES. Wait for the results, then try again."
    )
    return ApiError(
        "TOO_MANY_REQUESTS", message, limit="messageBytes", allowed=allowed, retryAfterSeconds=RETRY_AFTER_SECONDS
    )
