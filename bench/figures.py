"""A figure: what is promised, how it is measured, and what came of it.

What is compared takes turns (A B, B A, …) in one run, so that a machine that others use too slows both alike; what
counts is the median of the pairs' ratios, and their spread is told. A figure that has no other side (a time, a
memory) is measured as often.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import TypeVar

from bench.installation import Bench

Run = TypeVar("Run")


@dataclass(frozen=True, slots=True)
class Figure:
    """One row of the table: its promise is a least, or with `at_most` a greatest, in `unit`."""

    name: str
    title: str
    unit: str
    promised: float
    aim: float | None = None
    at_most: bool = False

    def kept(self, value: float) -> bool:
        """Whether a value keeps the promise."""
        return value <= self.promised if self.at_most else value >= self.promised


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is measured: `factor` of the sizes that the promises name, `rounds` times each."""

    factor: float = 1.0
    rounds: int = 5

    def of(self, full: int, least: int = 1) -> int:
        """So many at this scale."""
        return max(least, round(full * self.factor))


@dataclass(frozen=True, slots=True)
class Measured:
    """What came of measuring: each figure's values, one for each round, and how much was measured.

    `parts` are what the values were made of, for whoever wants to know more.
    """

    size: str
    values: Mapping[str, Sequence[float]]
    parts: Mapping[str, Sequence[float]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Group:
    """Figures that are measured together; `name` is what `--only` knows them by."""

    name: str
    figures: Sequence[Figure]
    measure: Callable[[Bench, Scale], Measured]


@dataclass(frozen=True, slots=True)
class Result:
    """A figure with its values; `wrong` says why there are none."""

    figure: Figure
    size: str = ""
    values: Sequence[float] = ()
    wrong: str = ""

    @property
    def value(self) -> float:
        """The one that counts."""
        return median(self.values)

    @property
    def kept(self) -> bool:
        """Whether the promise was kept."""
        return bool(self.values) and not self.wrong and self.figure.kept(self.value)


def pairs(rounds: int, first: Callable[[], Run], second: Callable[[], Run]) -> list[tuple[Run, Run]]:
    """The results of both, in turns: each goes first in every other pair."""
    found = []
    for number in range(rounds):
        if number % 2 == 0:
            one = first()
            other = second()
        else:
            other = second()
            one = first()
        found.append((one, other))
    return found


def compared(
    name: str, size: str, rounds: int, limit: tuple[str, Callable[[], float]], ours: tuple[str, Callable[[], float]]
) -> Measured:
    """How many times its limit something is; both are named by what `parts` will call them."""
    found = pairs(rounds, limit[1], ours[1])
    ratios = [value / at for at, value in found]
    parts = {limit[0]: [at for at, _ in found], ours[0]: [value for _, value in found]}
    return Measured(f"{size}, {counted(rounds, 'pair')}", {name: ratios}, parts)


def counted(number: int, noun: str) -> str:
    """How many of something, for people."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` percent of the values do not exceed (nearest rank)."""
    return sorted(values)[max(0, math.ceil(len(values) * share / 100) - 1)]
