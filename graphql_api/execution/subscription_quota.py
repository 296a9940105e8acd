"""How many subscriptions run with one token at the same time, whatever transports they came by."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from ringback.graphql_api.execution.documents import RequestRefused
from ringback.graphql_api.execution.operation_limits import limit_exceeded


class SubscriptionQuota:
    """Counts the subscriptions of each token in this process."""

    def __init__(self, allowed: int) -> None:
        self._allowed = allowed
        #: How many run with each token now.
        self.running: Counter[UUID] = Counter()

    @contextmanager
    def one_more(self, token: UUID) -> Iterator[None]:
        """A subscription runs while the block does; raises Refused (LIMIT_EXCEEDED) for one too many."""
        if self.running[token] >= self._allowed:
            message = f"This token has {self._allowed:,} subscriptions running, which is the limit: end one first."
            raise RequestRefused(limit_exceeded("subscriptionsPerToken", self._allowed, message))
        self.running[token] += 1
        try:
            yield
        finally:
            self.running[token] -= 1
            if not self.running[token]:
                del self.running[token]
