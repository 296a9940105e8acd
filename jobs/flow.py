"""What ended lately tells how much will end soon: places that are still taken now, and free when a claim gets there.

From the decision to claim an event to its request there are some round trips. Who claims only for places that are free
leaves them empty meanwhile; who claims for some more lets events wait behind attempts that hang. So each webhook is
given in advance what it is seen to free. Attempts that are under way for long free nothing soon: neither they, nor that
they all time out in one moment, give their webhook anything in advance.
"""

import time
from collections import Counter, deque
from collections.abc import Iterable
from uuid import UUID

#: How far ahead is looked, and how far back for it, in seconds: somewhat more than a claim takes to become a request.
HORIZON_SECONDS = 0.1
#: What is under way for longer, claiming included, is not taken to end soon, in seconds.
LONG_SECONDS = 0.5


class Flow:
    """Is told of each attempt that ends, and foretells how many will."""

    def __init__(self) -> None:
        self._ended: deque[tuple[float, UUID]] = deque()
        self._of_webhooks: Counter[UUID] = Counter()

    def ended(self, webhook_id: UUID, claimed_at: float) -> None:
        """Tell that an attempt has ended; it was claimed at that moment of the monotonic clock."""
        now = time.monotonic()
        if now - claimed_at <= LONG_SECONDS:
            self._ended.append((now, webhook_id))
            self._of_webhooks[webhook_id] += 1

    def ending(self, under_way: Iterable[tuple[UUID, float]]) -> Counter[UUID]:
        """How many of what is under way end within HORIZON_SECONDS, by webhook: as many as ended within the last.

        What is under way is given by its webhook and the moment of its claim.
        """
        now = time.monotonic()
        while self._ended and self._ended[0][0] < now - HORIZON_SECONDS:
            _, webhook_id = self._ended.popleft()
            self._of_webhooks[webhook_id] -= 1
            if not self._of_webhooks[webhook_id]:
                del self._of_webhooks[webhook_id]
        if not self._of_webhooks:
            return Counter()
        young = Counter([webhook_id for webhook_id, claimed_at in under_way if now - claimed_at <= LONG_SECONDS])
        return young & self._of_webhooks
