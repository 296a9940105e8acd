"""CPU time, compared with that of a fixed piece of work that is measured in the same run.

A slower machine and a tracer stretch both. Other programs on the machine do not count.
"""

import time
from collections.abc import Callable

#: What `control_work` takes on an ordinary machine, in seconds of CPU.
CONTROL_SECONDS = 0.01


def ordinary_seconds(work: Callable[[], object]) -> float:
    """Return the CPU time that `work` would take this thread on an ordinary machine, in seconds."""
    control = control_seconds(time.thread_time)
    begun = time.thread_time()
    work()
    taken = time.thread_time() - begun
    return taken / min(control, control_seconds(time.thread_time)) * CONTROL_SECONDS


def control_seconds(clock: Callable[[], float]) -> float:
    """Return the least CPU time of three runs of `control_work`, by this clock."""
    taken = []
    for _ in range(3):
        begun = clock()
        control_work()
        taken.append(clock() - begun)
    return min(taken)


def control_work() -> dict[str, int]:
    """Do a fixed piece of work in Python: calls, texts, and a dictionary of some size."""
    seen: dict[str, int] = {}
    for number in range(34_000):
        word = _word(number)
        seen[word] = len(word) + seen.get(word[1:], 0)
    return seen


def _word(number: int) -> str:
    return "".join(["w", str(number)])
