"""The conditions of webhooks, evaluated for the changes of one call within a time limit.

Every condition of a model's webhooks is evaluated for every change of the model, most of them while a transaction is
open. So the calls of a process share one thread, in which they take turns, and have a budget of CPU time, which is
shared by the calls of one GraphQL operation. Evaluations before a transaction let those of open transactions, for which
other writers wait, go first.

A real condition takes 3 to 30 µs. The budget allows for that, and for some that take longer. A condition that has not
used its fair share of the budget is never stopped, whatever the others take. One that takes more gets what is left, and
if that is too little its verdict is PENDING: the event is recorded, and its attempts evaluate the condition. See
docs/decisions/0005-conditions-have-a-budget.md.
"""

import asyncio
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, nullcontext
from contextvars import ContextVar
from enum import Enum
from time import thread_time
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

from cachetools import TTLCache

from ringback.models.errors import TemplateError
from ringback.models.templates.budget import MAX_PAUSE_MS, Meter
from ringback.models.templates.decimal_fields import DecimalFields
from ringback.models.templates.scope import ChangeLike, EventLike, build_event_facts, build_scope
from ringback.models.templates.template import compile_condition, is_condition_compiled

#: Seconds of CPU that all conditions of an operation may take, besides those for each evaluation and for parsing.
OPERATION_SECONDS = 0.02
#: Seconds of CPU that each evaluation adds to the budget: what a real condition takes.
EVALUATION_SECONDS = 0.000_02
#: Seconds that parsing takes for each character, at most. Parsed conditions are cached.
PARSE_SECONDS_PER_CHARACTER = 0.000_003
#: Maximum number of seconds that conditions of an operation which are not parsed yet add to the budget.
MAX_PARSE_SECONDS = 0.05
#: Seconds after which the next call, and the event loop, get a turn.
TURN_SECONDS = 0.001
#: Seconds for which a condition that was stopped, or a model whose conditions took long, is remembered.
MEMORY_SECONDS = 60
#: Seconds of one call from which the conditions of a model are slow.
SLOW_SECONDS = 0.002


class Verdict(Enum):
    """The result of a condition for one change."""

    PASSED = "the condition is true, or has an error that its attempts will report"
    REFUSED = "the condition is false"
    PENDING = "the condition was not evaluated for lack of time"
    UNKNOWN = "the condition reads a part of the event that is not known yet"


class Check(NamedTuple):
    """A condition to evaluate for one change. `is_early` if the id and the time of `event` are provisional."""

    condition: str
    item: Mapping[str, Any]
    change: ChangeLike
    event: EventLike
    decimals: DecimalFields
    is_early: bool = False


class ConditionBudget:
    """The seconds of CPU that the conditions of one operation may take. Its calls come one after another."""

    def __init__(self) -> None:
        self.seconds_left = OPERATION_SECONDS
        self._parse_seconds_left = MAX_PARSE_SECONDS
        #: Seconds of the longest evaluation so far.
        self._longest = 0.0

    def add_call(self, evaluations: int, unparsed_characters: int) -> None:
        """Add what the conditions of a call need. A call does not pay for the excess of an earlier one."""
        parse_seconds = min(unparsed_characters * PARSE_SECONDS_PER_CHARACTER, self._parse_seconds_left)
        self._parse_seconds_left -= parse_seconds
        self.seconds_left = max(self.seconds_left, 0.0) + evaluations * EVALUATION_SECONDS + parse_seconds

    def is_longest(self, seconds: float) -> bool:
        """Return whether an evaluation took longer than all before it."""
        return seconds > self._longest

    def spend(self, seconds: float) -> None:
        """Subtract the time of an evaluation. The longest one is free: it may be a garbage collection."""
        longest = max(self._longest, min(seconds, MAX_PAUSE_MS / 1000))
        self.seconds_left -= seconds - (longest - self._longest)
        self._longest = longest


#: The budget of the running operation, or None outside of operations, where each call has its own.
current_budget: ContextVar[ConditionBudget | None] = ContextVar("current_condition_budget", default=None)


async def evaluate(checks: Sequence[Check]) -> list[Verdict]:
    """Return the verdicts of one call, in the order of the checks. These are all early, or none is."""
    if not checks:
        return []
    evaluation = _Evaluation(checks, current_budget.get() or ConditionBudget())
    loop = asyncio.get_running_loop()
    lock: AbstractAsyncContextManager[None] = nullcontext()
    if checks[0].is_early:
        lock = _early_turns.setdefault(loop, asyncio.Lock())
    while not evaluation.is_done:
        async with lock:
            await loop.run_in_executor(_thread, evaluation.take_turn)
    return evaluation.verdicts


def are_slow(models: Iterable[str]) -> bool:
    """Return whether the conditions of one of these models have taken long recently."""
    return any(model in _slow_models for model in models)


class _Evaluation:
    """The checks of one call. Used by one thread at a time."""

    def __init__(self, checks: Sequence[Check], budget: ConditionBudget) -> None:
        self.verdicts = [Verdict.PENDING] * len(checks)
        self._checks = checks
        self._budget = budget
        self._queue: deque[int] = deque()
        self._seconds_used = 0.0
        self._is_started = False

    @property
    def is_done(self) -> bool:
        """Whether all verdicts are final."""
        return self._is_started and not self._queue

    def take_turn(self) -> None:
        """Evaluate conditions for TURN_SECONDS."""
        started = thread_time()
        if not self._is_started:
            self._start()
        while self._queue and self._budget.seconds_left > 0 and thread_time() - started < TURN_SECONDS:
            self._evaluate_next()
        if self._budget.seconds_left <= 0:
            self._queue.clear()
        self._seconds_used += thread_time() - started
        if not self._queue and self._seconds_used >= SLOW_SECONDS:
            _slow_models.update(dict.fromkeys({check.event.model for check in self._checks}, True))

    def _start(self) -> None:
        """Extend the budget and set the order: conditions that took little so far come first, then short ones."""
        self._is_started = True
        conditions = {check.condition for check in self._checks}
        unparsed_characters = sum(len(condition) for condition in conditions if not is_condition_compiled(condition))
        self._budget.add_call(len(self._checks), unparsed_characters)
        ranks = {condition: (_needed_seconds.get(hash(condition), 0.0), len(condition)) for condition in conditions}
        order = sorted(range(len(self._checks)), key=lambda index: ranks[self._checks[index].condition])
        self._queue.extend(order)

    def _evaluate_next(self) -> None:
        """Evaluate one condition. If its share of the budget does not suffice, it is tried again after the others."""
        share = max(self._budget.seconds_left / len(self._queue), EVALUATION_SECONDS)
        index = self._queue.popleft()
        check = self._checks[index]
        key = hash(check.condition)
        if _needed_seconds.get(key, 0.0) > share or _estimate_parsing(check.condition) > self._budget.seconds_left:
            return
        meter = Meter(share * 1000, max_pause_ms=0)
        started = thread_time()
        try:
            self.verdicts[index] = _decide(check, meter)
        except TemplateError:
            if not meter.is_time_up:
                self.verdicts[index] = Verdict.PASSED
        seconds = thread_time() - started
        if meter.is_time_up:
            self._queue.append(index)
            if not self._budget.is_longest(seconds):
                _needed_seconds[key] = 2 * share
        self._budget.spend(seconds)


def _decide(check: Check, meter: Meter) -> Verdict:
    """Evaluate a condition. Raises TemplateError."""
    condition = compile_condition(check.condition)
    if check.is_early and condition.reads_identity:
        return Verdict.UNKNOWN
    scope = build_scope(check.item, build_event_facts(check.event, check.change))
    if condition.holds(scope, check.decimals, meter):
        return Verdict.PASSED
    return Verdict.REFUSED


def _estimate_parsing(condition: str) -> float:
    if is_condition_compiled(condition):
        return 0.0
    return len(condition) * PARSE_SECONDS_PER_CHARACTER


#: One thread: more would compete for the interpreter and be no faster.
_thread = ThreadPoolExecutor(1, thread_name_prefix="ringback-conditions")
#: The lock for turns of early evaluations, by event loop. All other evaluations overtake those that wait for it.
_early_turns: WeakValueDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakValueDictionary()
#: Seconds that conditions need at least, by their hashes, if their share of a budget did not suffice. Each time that it
#: does not, the next try waits for a share of twice the size. Used by `_thread` only.
_needed_seconds: TTLCache[int, float] = TTLCache(maxsize=10_000, ttl=MEMORY_SECONDS)
#: Models whose conditions have taken long. The event loop only reads it.
_slow_models: TTLCache[str, bool] = TTLCache(maxsize=1_000, ttl=MEMORY_SECONDS)
