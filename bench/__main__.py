"""`make bench`: what is promised of Ringback's speed, measured in one run against the really started program.

One table is printed, and all of it is written as JSON, with a chart. The exit code is 1 when a promise is not kept, and
when a result was wrong: events that are missing, failed or came twice make a figure worthless.
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
from bench.figures import Figure, Group, Measured, Result, Scale, counted
from bench.installation import Bench
from bench.load import Wrong
from bench.publish import ROOT, publish, write
from bench.report import table

#: Those that share the database with a past come last, one after the other: nothing else is measured beside it, and
#: what others read does not push it out of the memory.
GROUPS: Sequence[Group] = (*deliveries.GROUPS, *writes.GROUPS, *latency.GROUPS, deliveries.OLD, *pages.GROUPS)
MEMORY = Figure("memory", "a worker's peak memory in all of these", "MB", 250, 120, at_most=True)


def measure(group: Group, bench: Bench, scale: Scale) -> tuple[list[Result], Measured | None]:
    """The results of a group's figures; when one is wrong, none of them counts."""
    try:
        measured = group.measure(bench, scale)
    except (Wrong, AssertionError) as wrong:
        return [Result(figure, wrong=" ".join(str(wrong).split())[:500]) for figure in group.figures], None
    return [Result(figure, measured.size, measured.values[figure.name]) for figure in group.figures], measured


def run(names: Sequence[str], scale: Scale) -> tuple[list[Result], dict[str, Any]]:
    """Measure the groups of these names; returns the results, and what there is to say of all of them."""
    results: list[Result] = []
    parts: dict[str, Any] = {}
    with Bench() as bench:
        for group in GROUPS:
            if group.name not in names:
                continue
            print(f"measuring {group.name}", file=sys.stderr, flush=True)
            found, measured = measure(group, bench, scale)
            results += found
            noted = {**(measured.parts if measured else {}), **bench.noted()}
            parts[group.name] = {name: [float(f"{value:.4g}") for value in values] for name, values in noted.items()}
            print(table(found), file=sys.stderr, flush=True)
        if bench.peaks:
            # The greatest of all is what is promised, and not their median.
            results.append(Result(MEMORY, counted(len(bench.peaks), "worker"), [max(bench.peaks)]))
    about = {
        "version": version("ringback"),
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "machine": f"{counted(os.cpu_count() or 1, 'core')}, {platform.system()}, Python {platform.python_version()}",
        "scale": scale.factor,
        "rounds": scale.rounds,
        "sink_share_of_a_core": round(bench.busiest, 2),
        "parts": parts,
    }
    return results, about


def _compare(options: argparse.Namespace) -> int:
    scale = Scale(options.scale, options.rounds)
    try:
        against.compare(options.only, scale, checkout.install(options.against), options.into)
    except Wrong as wrong:
        print(f"bench: {wrong}", file=sys.stderr)
        return 1
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write, and say by the exit code whether all promises were kept."""
    parser = argparse.ArgumentParser(prog="bench", description="What is promised of Ringback's speed.")
    names = [group.name for group in GROUPS]
    compared = ", ".join(comparison.name for comparison in against.COMPARISONS)
    about_names = f"{', '.join(names)}; with --against: {compared}"
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="NAME", help=about_names)
    parser.add_argument("--scale", type=float, default=1.0, help="how much is measured, of what the promises name")
    parser.add_argument("--rounds", type=int, default=5, help="how often each is measured")
    parser.add_argument("--into", type=Path, default=ROOT / "build/bench", help="the folder for JSON and the chart")
    parser.add_argument("--against", metavar="COMMIT", help="compare with another commit instead, pair by pair")
    parser.add_argument("--publish", action="store_true", help="write them, and the table, for the README")
    options = parser.parse_args(arguments)
    if options.against:
        return _compare(options)
    results, about = run(options.only, Scale(options.scale, options.rounds))
    write(options.into, results, about)
    if options.publish:
        publish(results, about)
    print(table(results))
    print(f"The sink, which answers, used {about['sink_share_of_a_core']:.0%} of a core at most.")
    return 0 if all(result.kept for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
