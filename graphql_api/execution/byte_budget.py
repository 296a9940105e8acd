"""The bytes that one operation may read from the database and write into its response.

`query_cost` limits the objects of an operation before it runs; their sizes are known only while they are read. An
operation that reads more than SMALL_BYTES is large: large operations of a process run one after another, in turns of
their API tokens, so that together they take little more memory than one. Small ones do not wait. A mutation whose
response is still small lets others have its turn, and the slot of its request, between two root fields.
"""

import asyncio
import time
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any, Self
from uuid import UUID

from graphql import GraphQLError

from ringback.graphql_api.errors import ApiError
from ringback.models import exact_json
from ringback.models.database.byte_budget import ReadWithin, current_budget
from ringback.models.fair_slots import FairSlots, HeldSlot

#: `extensions.limit` of the error.
RESPONSE_BYTES = "response_bytes"
#: Bytes that an operation may read without a turn.
SMALL_BYTES = 1_048_576
#: Bytes that the items of a batch of log entries may read or return together.
MAX_BATCH_BYTES = 4_194_304
#: Statements of one operation that read at the same time.
MAX_CONCURRENT_READS = 4
#: Seconds for which an operation may hold its turn or slot while others wait for it, and then finish its root field.
MAX_SECONDS_IF_OTHERS_WAIT = 0.4
#: Bytes that a field of an object counts, and characters of a text that they cover.
FIELD_BYTES, SHORT_CHARS = 64, 256
#: A text of up to so many characters counts its characters, a longer one its JSON.
_UNMEASURED_CHARS = 4_096


class ResponseTooLarge(ApiError):
    """The error for an operation that reads or returns too many bytes."""


class OperationBudget:
    """The budget of one operation, a context manager. Tasks that the block starts share it."""

    def __init__(
        self, limit: int, turns: FairSlots | None, token_id: UUID | None, request_slot: HeldSlot | None = None
    ) -> None:
        """Prepare a budget of `limit` bytes for an operation of a token.

        `turns` is shared by the operations of the process. None means that the whole limit is read without a turn.
        The operation holds the `request_slot`, if there is one.
        """
        self.is_large = False
        self._limit = limit
        self._small_limit = limit if turns is None else SMALL_BYTES
        self._turns = turns
        self._token_id = token_id
        self._read_bytes = 0
        self._written_bytes = 0
        self._has_ended = False
        #: The slots that the operation holds one of, and since when. The time that it waits for its turn is left out.
        self._held_since: dict[FairSlots, float] = {}
        self._field_started_at = time.monotonic()
        self._request_slot = request_slot
        if request_slot is not None:
            self._held_since[request_slot.slots] = self._field_started_at

    @cached_property
    def _reads(self) -> asyncio.Semaphore:
        return asyncio.Semaphore(MAX_CONCURRENT_READS)

    @cached_property
    def _large_reads(self) -> asyncio.Lock:
        return asyncio.Lock()

    async def read(self, read_within: ReadWithin) -> Sequence[Any]:
        """Return all rows of a statement. Raises ResponseTooLarge if they exceed the budget."""
        async with self._reads:
            if not self.is_large and self._read_bytes <= self._small_limit:
                page = await read_within(self._small_limit - self._read_bytes)
                if self._read_bytes + page.size <= self._small_limit:
                    self._read_bytes += page.size
                    return page.rows
                del page
            async with self._large_reads:
                await self._wait_for_turn()
                if self._read_bytes <= self._limit:
                    page = await read_within(self._limit - self._read_bytes)
                    self._read_bytes += page.size
                if self._read_bytes > self._limit:
                    raise self._too_large("reads")
                return page.rows

    def write(self, size: int) -> None:
        """Count bytes of the response. Raises ResponseTooLarge if they exceed the budget."""
        self._written_bytes += size
        if self._written_bytes > self._limit:
            raise self._too_large("returns")

    def is_late(self) -> bool:
        """Return whether the root field that runs has kept others waiting for long."""
        return _is_long_ago(self._field_started_at) and self._keeps_others_waiting()

    async def may_start_field(self) -> bool:
        """Return whether the operation may start another root field. Others that wait get its turn and slot first.

        An operation whose response is no longer small keeps both, because it keeps that memory.
        """
        if self._written_bytes <= SMALL_BYTES and self._keeps_others_waiting():
            self._release_turn()  # first: those that hold all slots may wait for the turn
            await self._pass_on_slot()
        self._field_started_at = time.monotonic()
        return not self._keeps_others_waiting()

    def __enter__(self) -> Self:
        self._token = current_budget.set(self)
        return self

    def __exit__(self, *error: object) -> None:
        """Let the next large operation run."""
        current_budget.reset(self._token)
        self._has_ended = True
        self._release_turn()

    def _keeps_others_waiting(self) -> bool:
        # A copy, because the thread of slow checks asks too.
        return any(self._is_held_for_long(slots) for slots in list(self._held_since))

    def _is_held_for_long(self, slots: FairSlots) -> bool:
        held_since = self._held_since.get(slots)
        return held_since is not None and slots.is_wanted and _is_long_ago(held_since)

    async def _pass_on_slot(self) -> None:
        slot = self._request_slot
        if slot is not None and self._is_held_for_long(slot.slots) and await slot.slots.pass_on(slot):
            self._held_since[slot.slots] = time.monotonic()

    def _release_turn(self) -> None:
        """Let the next large operation run. The next read waits for a turn again."""
        if self.is_large and self._turns is not None:
            self.is_large = False
            del self._held_since[self._turns]
            self._turns.release()

    async def _wait_for_turn(self) -> None:
        if self.is_large:
            return
        if self._turns is None:
            raise self._too_large("reads")
        asked_at = time.monotonic()
        await self._turns.acquire(self._token_id)
        if self._has_ended:  # the operation was cancelled, and this is the task of one of its loaders
            self._turns.release()
            raise self._too_large("reads")
        self.is_large = True
        granted_at = time.monotonic()
        self._held_since = {slots: since + granted_at - asked_at for slots, since in self._held_since.items()}
        self._held_since[self._turns] = granted_at

    def _too_large(self, verb: str) -> ResponseTooLarge:
        message = (
            f"The operation {verb} more than {self._limit:,} bytes. Ask for smaller pages or fewer fields. "
            "The operator can raise RINGBACK_API_MAX_RESPONSE_BYTES."
        )
        return ResponseTooLarge("LIMIT_EXCEEDED", message, limit=RESPONSE_BYTES, allowed=self._limit)


def is_too_large(errors: Iterable[GraphQLError]) -> bool:
    """Return whether one of the errors of a response is a ResponseTooLarge."""
    return any((error.extensions or {}).get("limit") == RESPONSE_BYTES for error in errors)


def _is_long_ago(at: float) -> bool:
    return time.monotonic() > at + MAX_SECONDS_IF_OTHERS_WAIT


async def may_start_field() -> bool:
    """Return whether the running operation may start another root field."""
    budget = current_budget.get()
    return not isinstance(budget, OperationBudget) or await budget.may_start_field()


def out_of_time() -> ApiError:
    """Return the error of a root field that is not started."""
    message = (
        f"This field was not executed, because the operation has run for more than {MAX_SECONDS_IF_OTHERS_WAIT} s, a "
        "fixed limit while others wait for it. Send this field and those after it in another request."
    )
    return ApiError("TOO_MANY_REQUESTS", message, limit="operationSeconds", allowed=MAX_SECONDS_IF_OTHERS_WAIT)


def count_fields(count: int) -> None:
    """Count the fields of an object in the response."""
    budget = current_budget.get()
    if isinstance(budget, OperationBudget):
        budget.write(count * FIELD_BYTES)


def count_text(text: str) -> None:
    """Count a text in the response, if it has more than SHORT_CHARS characters."""
    if len(text) <= SHORT_CHARS:
        return
    budget = current_budget.get()
    if isinstance(budget, OperationBudget):
        budget.write(len(text) if len(text) <= _UNMEASURED_CHARS else _measure(text))


def count_json(value: Any) -> None:
    """Count a JSON value in the response."""
    budget = current_budget.get()
    if isinstance(budget, OperationBudget):
        budget.write(_measure(value))


def _measure(value: Any) -> int:
    try:
        return len(exact_json.dump(value))
    except TypeError:  # the response cannot be encoded either
        return 0
