"""What ended lately tells how much will end soon: places that are still taken now, and free when a claim gets there.

From the decision to claim an event to its request there are some round trips. Who claims only for places that are free
leaves them empty meanwhile; who claims for some more lets events wait behind attempts that hang. So each webhook is
given in advance what it is seen to free. One whose endpoint hangs frees nothing, and gets nothing; that its attempts
time out, all in the same moment perhaps, tells of nothing that will end soon.
"""

import time
from collections import Counter, deque
from typing import NamedTuple
from uuid import UUID

#: How far ahead is looked, and how far back for it, in seconds: somewhat more than a claim takes to become a request.
HORIZON_SECONDS = 0.1
#: What was under way for longer, claiming included, tells nothing about the next moments, in seconds.
LONG_SECONDS = 0.5


class Ending(NamedTuple):
    """How many attempts of each webhook end within HORIZON_SECONDS, and how many of all are retries."""

    of_webhooks: Counter[UUID]
    retries: int


class Flow:
    """Is told of each attempt that ends, and foretells how many will."""

    def __init__(self) -> None:
        self._ended: deque[tuple[float, UUID, bool]] = deque()
        self._of_webhooks: Counter[UUID] = Counter()
        self._retries = 0

    def ended(self, webhook_id: UUID, *, retry: bool, claimed_at: float) -> None:
        """Tell that an attempt has ended; it was claimed at that moment of the monotonic clock."""
        now = time.monotonic()
        if now - claimed_at <= LONG_SECONDS:
            self._ended.append((now, webhook_id, retry))
            self._of_webhooks[webhook_id] += 1
            self._retries += retry

    def ending(self) -> Ending:
        """As many as ended within the last HORIZON_SECONDS; not to be changed."""
        since = time.monotonic() - HORIZON_SECONDS
        while self._ended and self._ended[0][0] < since:
            _, webhook_id, retry = self._ended.popleft()
            self._retries -= retry
            if self._of_webhooks[webhook_id] > 1:
                self._of_webhooks[webhook_id] -= 1
            else:
                del self._of_webhooks[webhook_id]
        return Ending(self._of_webhooks, self._retries)
