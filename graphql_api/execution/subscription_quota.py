"""The limit on concurrent subscriptions of one token, over all transports."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from ringback.graphql_api.execution.documents import RequestRefused
from ringback.graphql_api.execution.operation_limits import limit_exceeded


class SubscriptionQuota:
    """The number of running subscriptions of each token in this process."""

    def __init__(self, allowed: int) -> None:
        self._allowed = allowed
        #: Running subscriptions by token id.
        self.running: Counter[UUID] = Counter()

    @contextmanager
    def reserve(self, token_id: UUID) -> Iterator[None]:
        """Count a subscription while the block runs. Raises RequestRefused (LIMIT_EXCEEDED) at the limit."""
        if self.running[token_id] >= self._allowed:
            message = f"This token has {self._allowed:,} subscriptions running, which is the limit. End one first."
            raise RequestRefused(limit_exceeded("subscriptionsPerToken", self._allowed, message))
        self.running[token_id] += 1
        try:
            yield
        finally:
            self.running[token_id] -= 1
            if not self.running[token_id]:
                del self.running[token_id]
