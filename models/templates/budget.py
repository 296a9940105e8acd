"""Limits on what one template may cost, and the meter that counts the cost of a render.

Template authors may be careless or hostile, and python-liquid's own limits do not cover loops, filters or its lexer.
The limits here are counts, so that a template behaves the same on every machine. The time limit is a safety net. It
counts CPU time of the rendering thread, because a busy machine must not fail a harmless template.
"""

from collections.abc import Callable
from time import perf_counter, thread_time

from liquid.exceptions import LiquidError

#: Largest template or condition, in bytes of UTF-8.
MAX_SOURCE_BYTES = 65_536
#: Characters of Liquid that are short. Parsing as many takes up to 5 ms.
MAX_SHORT_CHARACTERS = 2_000
#: Largest rendered text, in bytes of UTF-8. Each `capture` has the same limit.
MAX_OUTPUT_BYTES = 262_144
#: Longest text that a filter takes or returns, and largest structure written as JSON, in characters.
MAX_TEXT = 262_144
#: Longest range, and longest list that a filter takes or returns, with the elements of nested lists.
MAX_ITEMS = 10_000
#: Loop iterations and entered blocks in one render, all loops together.
MAX_STEPS = 20_000
#: Characters that filters, captures and output read and write in one render. A list element counts as 8 or 16.
MAX_WORK = 4_194_304
#: Largest integer that a filter returns, in bits.
MAX_INTEGER_BITS = 2_048
#: Depth of nested blocks.
MAX_NESTING = 20
#: Names, literals and signs in the markup of one template; bounds the time and memory of parsing. A tag adds two, a
#: text between tags adds one.
MAX_PARTS = 10_000
#: `(` and `[` in one tag: from each of them python-liquid looks ahead to the end of the tag.
MAX_BRACKETS = 50
#: Depth of nested operators in one expression.
MAX_EXPRESSION_DEPTH = 100
#: CPU time of one render, in milliseconds. All templates of a request share it.
RENDER_BUDGET_MS = 50
#: Milliseconds of the longest pause between two clock readings that do not count. No single operation can take longer
#: than the budget, so a longer pause is a garbage collection.
MAX_PAUSE_MS = 200
#: Milliseconds before CPU time is first read. Most renders take less, and reading it costs as much as they do.
UNMETERED_MS = 5


class Refusal(LiquidError):
    """A render that Ringback stopped. The message is written for the template's author.

    python-liquid passes a LiquidError on unchanged. This package turns it into a TemplateError.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message, token=None)


class BadArgument(Refusal):
    """A filter argument that the filter never accepts, whatever its input."""


class LimitReached(Refusal):
    """A count that exceeded its limit. The same template exceeds it again with the same data."""


class TimeUp(Refusal):
    """A render that used up its CPU time, which depends on the machine too."""


class Meter:
    """The resources that a render has used. Each method raises a Refusal once its limit is exceeded.

    `limit_ms` is the CPU time allowed, by default RENDER_BUDGET_MS. A pause of up to `max_pause_ms` does not count.
    `wall` and `cpu` are clocks in seconds. A request has one meter: its templates share the time, and each has its own
    counts.
    """

    __slots__ = (
        "_cpu",
        "_cpu_deadline",
        "_last_tick",
        "_limit_ms",
        "_longest_pause",
        "_max_pause_ms",
        "_next_cpu_check",
        "_started_at",
        "_steps",
        "_wall",
        "_work",
        "is_time_up",
    )

    def __init__(
        self,
        limit_ms: float | None = None,
        *,
        max_pause_ms: float = MAX_PAUSE_MS,
        wall: Callable[[], float] = perf_counter,
        cpu: Callable[[], float] = thread_time,
    ) -> None:
        self._limit_ms = RENDER_BUDGET_MS if limit_ms is None else limit_ms
        self._max_pause_ms = max_pause_ms
        #: Whether `tick` has raised TimeUp.
        self.is_time_up = False
        self._steps = 0
        self._work = 0
        self._wall = wall
        self._cpu = cpu
        self._cpu_deadline: float | None = None
        self._started_at = self._last_tick = wall()
        self._next_cpu_check = self._started_at + min(UNMETERED_MS, self._limit_ms / 2) / 1000
        self._longest_pause = 0.0

    def start_template(self) -> None:
        """Start the counts of the next template of a request."""
        self._steps = 0
        self._work = 0

    def tick(self) -> None:
        """Raise TimeUp if the CPU time is used up."""
        # Reading the wall clock is ten times cheaper, and CPU time never runs ahead of it.
        now = self._wall()
        pause = now - self._last_tick
        if pause > self._longest_pause:  # noqa: PLR1730  # max() takes longer than all of this
            self._longest_pause = pause
        self._last_tick = now
        if now >= self._next_cpu_check:
            self._check_cpu_time(now)

    def add_step(self) -> None:
        """Count one entered block, or one iteration of a loop."""
        self.tick()
        self._steps += 1
        if self._steps > MAX_STEPS:
            raise LimitReached(
                f"The template runs more than {MAX_STEPS:,} loop iterations and blocks. Loop over fewer elements"
            )

    def add_work(self, characters: int) -> None:
        """Count characters read or written. Does not read the clock; the caller calls `tick`."""
        self._work += characters
        if self._work > MAX_WORK:
            raise LimitReached(
                f"The template processes more than {MAX_WORK:,} characters. Do less in loops, or use shorter values"
            )

    def _check_cpu_time(self, now: float) -> None:
        forgiven = min(self._longest_pause, self._max_pause_ms / 1000)
        if self._cpu_deadline is None:  # CPU time so far is unknown, so all elapsed time but the pause counts
            used = now - self._started_at - self._longest_pause
            self._cpu_deadline = self._cpu() + self._limit_ms / 1000 - used - forgiven
        remaining = self._cpu_deadline + forgiven - self._cpu()
        if remaining <= 0:
            self.is_time_up = True
            raise TimeUp(
                f"The templates of one request take more than {self._limit_ms:g} ms of CPU time together. Simplify them"
            )
        self._next_cpu_check = now + remaining
