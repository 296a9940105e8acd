"""The limits on a token's subscriptions, over all transports, and on its connections and WebSocket messages."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar
from uuid import UUID

from ringback.graphql_api.execution.documents import Operation, RequestRefused
from ringback.graphql_api.execution.operation_limits import OperationLimits, limit_exceeded, limit_total

K = TypeVar("K")

#: Characters of variables, as JSON, that count as one token of a document. Parsed, they take up to 7 times as much.
CHARS_PER_TOKEN = 50


class SubscriptionQuota:
    """The running subscriptions of each token in this process, and the tokens of their documents and variables.

    Both are in memory for as long as a subscription runs. A document takes 50 to 200 times its size.
    """

    def __init__(self, limits: OperationLimits) -> None:
        self._limits = limits
        #: Running subscriptions by token id.
        self.running: Counter[UUID] = Counter()
        #: Running subscriptions of all tokens.
        self.total = 0
        #: WebSocket connections and streams by token id.
        self.connections: Counter[UUID] = Counter()
        #: Bytes of WebSocket messages that wait or are executed, by token id.
        self._message_bytes: Counter[UUID] = Counter()
        #: Tokens of documents and variables by token id. Equal documents of one token count once.
        self._tokens: Counter[UUID] = Counter()
        #: Running subscriptions by operation, of one token and of all.
        self._running_of_token: Counter[tuple[UUID, Operation]] = Counter()
        self._running_of_all: Counter[Operation] = Counter()

    def is_shared(self, operation: Operation) -> bool:
        """Return whether several subscriptions run an operation."""
        return self._running_of_all[operation] > 1

    @contextmanager
    def count_connection(self, token_id: UUID) -> Iterator[None]:
        """Count a WebSocket connection or a stream while the block runs. Raises RequestRefused at a limit."""
        allowed = self._limits.connections_per_token
        if self.connections[token_id] >= allowed:
            message = (
                f"This token has {allowed:,} connections, the limit, a quarter of RINGBACK_HTTP_MAX_CONNECTIONS. "
                "Close some."
            )
            raise RequestRefused(limit_exceeded("connectionsPerToken", allowed, message))
        allowed = limit_total(allowed)
        if self.connections.total() >= allowed:
            message = (
                f"All tokens together have {allowed:,} connections to this process, the limit, a third of "
                "RINGBACK_HTTP_MAX_CONNECTIONS. Close some."
            )
            raise RequestRefused(limit_exceeded("connections", allowed, message))
        _add(self.connections, token_id, 1)
        try:
            yield
        finally:
            _add(self.connections, token_id, -1)

    def has_room_for_message(self, token_id: UUID, size: int) -> bool:
        """Return whether the token's messages and one more do not take too many bytes. A single one always may."""
        held_bytes = self._message_bytes[token_id]
        return not held_bytes or held_bytes + size <= self._limits.message_bytes

    def count_message(self, token_id: UUID, change: int) -> None:
        """Add to the bytes of the token's messages that wait or are executed."""
        _add(self._message_bytes, token_id, change)

    @contextmanager
    def reserve(self, token_id: UUID, operation: Operation, variable_chars: int = 0) -> Iterator[None]:
        """Count a subscription while the block runs. Raises RequestRefused (LIMIT_EXCEEDED) at a limit.

        `variable_chars` is the length of its variables as JSON.
        """
        variable_tokens = variable_chars // CHARS_PER_TOKEN
        self._check(token_id, operation, variable_tokens)
        self._count(token_id, operation, variable_tokens, 1)
        try:
            yield
        finally:
            self._count(token_id, operation, variable_tokens, -1)

    def _check(self, token_id: UUID, operation: Operation, variable_tokens: int) -> None:
        allowed = self._limits.subscriptions_per_token
        if self.running[token_id] >= allowed:
            message = (
                f"This token has {allowed:,} subscriptions running, which is the limit, "
                "RINGBACK_API_MAX_SUBSCRIPTIONS_PER_TOKEN. End one first."
            )
            raise RequestRefused(limit_exceeded("subscriptionsPerToken", allowed, message))
        allowed = limit_total(allowed)
        if self.total >= allowed:
            message = (
                f"All tokens together have {allowed:,} subscriptions running in this process, which is the limit, a "
                "third more than RINGBACK_API_MAX_SUBSCRIPTIONS_PER_TOKEN. End one first."
            )
            raise RequestRefused(limit_exceeded("subscriptions", allowed, message))
        tokens = variable_tokens
        if (token_id, operation) not in self._running_of_token:
            tokens += operation.token_count
        allowed = self._limits.subscription_tokens
        if tokens and self._tokens[token_id] + tokens > allowed:
            message = (
                f"The documents and variables of this token's subscriptions would have more than {allowed:,} tokens, "
                "the limit, RINGBACK_API_MAX_SUBSCRIPTION_TOKENS. End one first, or use equal documents with short "
                "variables."
            )
            raise RequestRefused(limit_exceeded("subscriptionTokens", allowed, message))
        allowed = limit_total(allowed)
        if tokens and self._tokens.total() + tokens > allowed:
            message = (
                f"The documents and variables of all subscriptions in this process would have more than {allowed:,} "
                "tokens, the limit, a third more than RINGBACK_API_MAX_SUBSCRIPTION_TOKENS. End one first, or use "
                "equal documents with short variables."
            )
            raise RequestRefused(limit_exceeded("allSubscriptionTokens", allowed, message))

    def _count(self, token_id: UUID, operation: Operation, variable_tokens: int, change: int) -> None:
        """Count a subscription that starts (1) or ends (-1)."""
        self.total += change
        _add(self.running, token_id, change)
        _add(self._running_of_all, operation, change)
        tokens = variable_tokens
        was_running = (token_id, operation) in self._running_of_token
        _add(self._running_of_token, (token_id, operation), change)
        if was_running != ((token_id, operation) in self._running_of_token):
            tokens += operation.token_count
        _add(self._tokens, token_id, change * tokens)


def _add(counter: "Counter[K]", key: K, change: int) -> None:
    """Change a count, and remove it when it becomes 0."""
    counter[key] += change
    if not counter[key]:
        del counter[key]
