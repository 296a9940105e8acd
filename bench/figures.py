"""Figures: their promises, groups of measurements, and results.

The sides of a comparison take turns (A B, B A, …) in one run, so that a shared machine slows both alike. The result is
the median of the pairs' ratios, with their range. A figure without a second side (a time, memory) is measured as often.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import NamedTuple, TypeVar

from bench.installation import Bench

Run = TypeVar("Run")


@dataclass(frozen=True, slots=True)
class Figure:
    """A row of the table. `promised` is a minimum, or with `at_most` a maximum, in `unit`."""

    name: str
    title: str
    unit: str
    promised: float
    aim: float | None = None
    at_most: bool = False

    def is_kept_by(self, value: float) -> bool:
        """Return whether a value keeps the promise."""
        return value <= self.promised if self.at_most else value >= self.promised


@dataclass(frozen=True, slots=True)
class Scale:
    """The size of a run: `factor` of the sizes that the promises name, `rounds` times each."""

    factor: float = 1.0
    rounds: int = 5

    def of(self, full: int, least: int = 1) -> int:
        """Return a number at this scale, at least `least`."""
        return max(least, round(full * self.factor))


@dataclass(frozen=True, slots=True)
class Measured:
    """The values of a group: one per figure and round. `size` says how much was measured, `parts` are the details."""

    size: str
    values: Mapping[str, Sequence[float]]
    parts: Mapping[str, Sequence[float]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Group:
    """Figures that are measured together. `name` is the argument of `--only`."""

    name: str
    figures: Sequence[Figure]
    measure: Callable[[Bench, Scale], Measured]


@dataclass(frozen=True, slots=True)
class Result:
    """A figure with its values. `wrong` says why there are none."""

    figure: Figure
    size: str = ""
    values: Sequence[float] = ()
    wrong: str = ""

    @property
    def value(self) -> float:
        """The median of the values."""
        return median(self.values)

    @property
    def is_kept(self) -> bool:
        """Whether the promise was kept."""
        return bool(self.values) and not self.wrong and self.figure.is_kept_by(self.value)


def run_pairs(rounds: int, first: Callable[[], Run], second: Callable[[], Run]) -> list[tuple[Run, Run]]:
    """Run both sides once per round, and return their results. They alternate in going first."""
    results = []
    for number in range(rounds):
        if number % 2 == 0:
            first_result = first()
            second_result = second()
        else:
            second_result = second()
            first_result = first()
        results.append((first_result, second_result))
    return results


class Side(NamedTuple):
    """A side of a comparison. `name` is its key in `Measured.parts`."""

    name: str
    measure: Callable[[], float]


def compare_pairs(name: str, size: str, rounds: int, base: Side, ours: Side) -> Measured:
    """Measure both sides in pairs. The values of the figure `name` are the ratios of ours to the base."""
    results = run_pairs(rounds, base.measure, ours.measure)
    base_values, our_values = [value for value, _ in results], [value for _, value in results]
    ratios = [our_value / base_value for base_value, our_value in results]
    return Measured(
        size=f"{size}, {format_count(rounds, 'pair')}",
        values={name: ratios},
        parts={base.name: base_values, ours.name: our_values},
    )


def format_count(number: int, noun: str) -> str:
    """Return a number with its noun, such as "2,000 pairs"."""
    plural = "" if number == 1 else "s"
    return f"{number:,} {noun}{plural}"


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that `share` percent of the values do not exceed (nearest rank)."""
    return sorted(values)[max(0, math.ceil(len(values) * share / 100) - 1)]
