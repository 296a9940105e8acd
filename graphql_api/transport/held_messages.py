"""The memory of the messages of one WebSocket connection, as the listener's budget counts it."""

import asyncio
from collections.abc import Callable

from ringback.graphql_api.listener.byte_budget import ByteBudget

#: Bytes of memory that an operation takes besides its message: while its document is checked, and while it runs.
UNCHECKED_BYTES, EXECUTED_BYTES = 8_000, 32_000
#: Documents of a connection that wait to be checked, at most, before it is read on.
MAX_UNCHECKED = 8


class HeldMessages:
    """The messages that a connection holds: the bytes of memory of each, by the task of its operation.

    They count in the listener's budget, with the operation: for a subscription until its document is checked, since
    its variables count for the token then, and for other operations until they end.
    """

    def __init__(self, budget: ByteBudget | None, drop: Callable[[], bool]) -> None:
        """Prepare for a connection. `drop` closes it, and returns whether that frees its messages."""
        self._budget = budget
        self._drop = drop
        #: Messages whose documents are not checked yet. None has the one that is being read.
        self._unchecked: dict[asyncio.Task[None] | None, int] = {}
        self._executed: dict[asyncio.Task[None], int] = {}
        self._was_removed = asyncio.Event()

    def read(self, size: int) -> None:
        """Count a message that is being read."""
        self._unchecked[None] = size
        self._hold()

    def assign(self, task: asyncio.Task[None]) -> None:
        """Count the message that is being read for the task of its operation."""
        self._unchecked[task] = self._unchecked.pop(None)

    def execute(self, task: asyncio.Task[None]) -> None:
        """Count a message whose document was checked."""
        self._executed[task] = self._unchecked.pop(task)
        self._was_removed.set()
        self._hold()

    def _hold(self) -> None:
        if self._budget is not None:
            self._budget.hold(self, self.count_held_bytes())

    def remove(self, task: asyncio.Task[None] | None) -> int:
        """Stop counting a message. Return its size, or 0 if it does not count any more."""
        size = self._unchecked.pop(task, 0)
        if task is not None:
            size += self._executed.pop(task, 0)
        self._was_removed.set()
        if self._budget is not None and not self._unchecked and not self._executed:
            self._budget.release(self)
        return size

    async def wait_for_room(self, max_bytes: int) -> None:
        """Wait until no document but the one that is being read waits, or few that have `max_bytes` in total."""
        while len(self._unchecked) > MAX_UNCHECKED or (
            len(self._unchecked) > 1 and sum(self._unchecked.values()) > max_bytes
        ):
            self._was_removed.clear()
            await self._was_removed.wait()

    def count_held_bytes(self) -> int:
        """Return the bytes of all messages and their operations."""
        operations = UNCHECKED_BYTES * len(self._unchecked) + EXECUTED_BYTES * len(self._executed)
        return operations + sum(self._unchecked.values()) + sum(self._executed.values())

    def free_held_bytes(self) -> bool:
        """Close the connection."""
        return self._drop()
