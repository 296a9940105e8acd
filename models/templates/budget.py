"""What one template may cost, and the meter that counts it while it renders.

Templates are written by people who may be careless or hostile, and python-liquid's own limits leave loops, filters and
its lexer open. So the caps here are counts, the same on every machine: a template that passes them once passes them
always. Time is only the net below. It is CPU time of the rendering thread, because a busy machine or another thread
holding the interpreter must not fail an innocent template.
"""

from collections.abc import Callable
from time import perf_counter, thread_time

from liquid.exceptions import LiquidError

#: Largest template or condition, in bytes of UTF-8.
MAX_SOURCE_BYTES = 65_536
#: Largest rendered text, in bytes of UTF-8; each `capture` has the same cap.
MAX_OUTPUT_BYTES = 262_144
#: Longest text that a filter takes or gives, and heaviest structure written as JSON, in characters.
MAX_TEXT = 262_144
#: Longest range, and longest list that a filter takes or gives (nested lists counted in), in elements.
MAX_ITEMS = 10_000
#: Loop rounds and entered blocks of one render, added up over all loops.
MAX_STEPS = 20_000
#: Characters that filters, captures and output read and make in one render; a list element counts for 8 or 16.
MAX_WORK = 4_194_304
#: Largest whole number that a filter gives, in bits.
MAX_INTEGER_BITS = 2_048
#: Blocks inside blocks.
MAX_NESTING = 20
#: Names, literals and signs inside the markup of one template; a tag adds two, a text between tags one. Bounds the
#: time and the memory of parsing.
MAX_PARTS = 10_000
#: `(` and `[` in one tag: python-liquid looks ahead to the end of the tag from each of them.
MAX_BRACKETS = 50
#: Operators inside operators in one expression.
MAX_EXPRESSION_DEPTH = 100
#: CPU time of one render or of one condition, in milliseconds.
RENDER_BUDGET_MS = 50
#: How much of the longest pause between two looks at the clock is forgiven, in milliseconds. The caps keep every single
#: operation shorter than the budget, so a pause that long is the garbage collector's.
MAX_PAUSE_MS = 200
#: The first so many ms of a render go by the wall clock alone: most take less, and reading CPU time costs as much as
#: they do.
UNMETERED_MS = 5


class Refusal(LiquidError):
    """A render was stopped by us; the message is written for the author of the template.

    A LiquidError, so that it travels through python-liquid untouched. It never leaves this package.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message, token=None)


class BadArgument(Refusal):
    """A filter was given arguments that it can never take."""


class LimitReached(Refusal):
    """A cap of this module was reached: the same template with the same data will reach it again."""


class TimeUp(Refusal):
    """The CPU time was used up, which depends on the machine as well."""


class Meter:
    """Counts what one render has used; every method raises when a cap is passed. The clocks are in seconds."""

    __slots__ = ("_begun", "_cpu", "_cpu_end", "_last", "_look", "_pause", "_steps", "_wall", "_work")

    def __init__(self, wall: Callable[[], float] = perf_counter, cpu: Callable[[], float] = thread_time) -> None:
        self._steps = 0
        self._work = 0
        self._wall = wall
        self._cpu = cpu
        self._cpu_end: float | None = None
        self._begun = self._last = wall()
        self._look = self._begun + UNMETERED_MS / 1000
        self._pause = 0.0

    def tick(self) -> None:
        """Raise TimeUp when the CPU time is used up."""
        # The wall clock is ten times cheaper to read, and CPU time cannot run ahead of it.
        now = self._wall()
        pause = now - self._last
        if pause > self._pause:  # noqa: PLR1730  # max() takes longer than all of this
            self._pause = pause
        self._last = now
        if now >= self._look:
            self._look_closely(now)

    def _look_closely(self, now: float) -> None:
        forgiven = min(self._pause, MAX_PAUSE_MS / 1000)
        if self._cpu_end is None:  # all that passed until now counts as used, but for the pause
            self._cpu_end = self._cpu() + RENDER_BUDGET_MS / 1000 - (now - self._begun - self._pause) - forgiven
        left = self._cpu_end + forgiven - self._cpu()
        if left <= 0:
            raise TimeUp(f"rendering takes more than {RENDER_BUDGET_MS} ms")
        self._look = now + left

    def step(self) -> None:
        """Count one entered block, which is also one round of a loop."""
        self.tick()
        self._steps += 1
        if self._steps > MAX_STEPS:
            raise LimitReached(f"the template runs through more than {MAX_STEPS} loop rounds and blocks")

    def work(self, characters: int) -> None:
        """Count characters read or made; the clock is for whoever reads or makes them to look at."""
        self._work += characters
        if self._work > MAX_WORK:
            raise LimitReached("the template handles too much text: do less in loops, or with shorter values")
