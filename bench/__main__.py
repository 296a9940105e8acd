"""`make bench`: measures the promised performance in one run, against the running program.

Prints one table, and writes the results as JSON and as a chart. Exits with 1 if a promise is not kept or a result is
wrong: missing, failed or duplicate events invalidate a figure.
"""

import argparse
import datetime as dt
import os
import platform
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench import against, checkout, deliveries, latency, pages, writes
from bench.figures import Figure, Group, Measured, Result, Scale, format_count
from bench.installation import Bench
from bench.load import WrongResult
from bench.publish import ROOT, publish, write
from bench.report import table

#: The groups that share the filled database come last: other groups must not run beside it or evict it from memory.
GROUPS: Sequence[Group] = (*deliveries.GROUPS, *writes.GROUPS, *latency.GROUPS, deliveries.OLD, *pages.GROUPS)
MEMORY = Figure("memory", "a worker's peak memory in all of these", "MB", 250, 120, at_most=True)


def measure(group: Group, bench: Bench, scale: Scale) -> tuple[list[Result], Measured | None]:
    """Measure a group. If one of its results is wrong, none of its figures counts."""
    try:
        measured = group.measure(bench, scale)
    except (WrongResult, AssertionError) as wrong:
        return [Result(figure, wrong=" ".join(str(wrong).split())[:500]) for figure in group.figures], None
    return [Result(figure, measured.size, measured.values[figure.name]) for figure in group.figures], measured


def run(names: Sequence[str], scale: Scale) -> tuple[list[Result], dict[str, Any]]:
    """Measure the named groups. Return the results, and facts about the run."""
    results: list[Result] = []
    parts: dict[str, Any] = {}
    with Bench() as bench:
        for group in GROUPS:
            if group.name not in names:
                continue
            print(f"measuring {group.name}", file=sys.stderr, flush=True)
            group_results, measured = measure(group, bench, scale)
            results += group_results
            details: dict[str, Sequence[float]] = {**bench.take_notes()}
            if measured is not None:
                details = {**measured.parts, **details}
            parts[group.name] = {name: _rounded(values) for name, values in details.items()}
            print(table(group_results), file=sys.stderr, flush=True)
        if bench.peaks:
            # The promise is about the maximum, not the median.
            results.append(Result(MEMORY, format_count(len(bench.peaks), "worker"), [max(bench.peaks)]))
    cores = format_count(os.cpu_count() or 1, "core")
    about = {
        "version": version("ringback"),
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "machine": f"{cores}, {platform.system()}, Python {platform.python_version()}",
        "scale": scale.factor,
        "rounds": scale.rounds,
        "sink_share_of_a_core": round(bench.busiest, 2),
        "parts": parts,
    }
    return results, about


def _rounded(values: Sequence[float]) -> list[float]:
    """Return values with four significant digits."""
    return [float(f"{value:.4g}") for value in values]


def _compare(options: argparse.Namespace) -> int:
    scale = Scale(options.scale, options.rounds)
    try:
        against.compare(options.only, scale, checkout.install(options.against), options.into)
    except WrongResult as wrong:
        print(f"bench: {wrong}", file=sys.stderr)
        return 1
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write the results. Return 1 if a promise is not kept."""
    parser = argparse.ArgumentParser(prog="bench", description="Measure the promised performance.")
    names = [group.name for group in GROUPS]
    compared = ", ".join(comparison.name for comparison in against.COMPARISONS)
    about_names = f"{', '.join(names)}; with --against: {compared}"
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="NAME", help=about_names)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the full sizes to measure")
    parser.add_argument("--rounds", type=int, default=5, help="number of measurements of each figure")
    parser.add_argument("--into", type=Path, default=ROOT / "build/bench", help="folder for the JSON and the chart")
    parser.add_argument("--against", metavar="COMMIT", help="compare with another commit instead, pair by pair")
    parser.add_argument("--publish", action="store_true", help="update the README and bench/results")
    options = parser.parse_args(arguments)
    if options.against:
        return _compare(options)
    results, about = run(options.only, Scale(options.scale, options.rounds))
    write(options.into, results, about)
    if options.publish:
        publish(results, about)
    print(table(results))
    print(f"The sink used {about['sink_share_of_a_core']:.0%} of a core at most.")
    return 0 if all(result.is_kept for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
