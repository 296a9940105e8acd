"""`python -m bench --against COMMIT`: this tree beside another commit, in pairs, under the same load.

Both programs get their load through the public API and deliver to the same sink. A pair is one run of each, right after
each other, and which of them goes first alternates; what counts is the median of the pairs' ratios. This tree is "new",
the commit is "old".
"""

import json
import random
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bench.backlog import deliver_backlog, publish_backlog
from bench.checkout import Checkout
from bench.deliveries import CONCURRENCY, EVENTS, SLOWEST
from bench.due import BODY_BYTES, LIQUID, Webhooks
from bench.figures import Scale, pairs, percentile
from bench.installation import Bench
from bench.latency import COMMITS, times_to_arrive
from bench.load import Wrong
from tests.support.patience import PATIENCE_SECONDS

#: One run's figures by name, with their unit in it.
Figures = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Comparison:
    """What is run on both sides; `run` takes the Python of the program that is measured."""

    name: str
    title: str
    run: Callable[[Bench, Scale, str], Figures]


@dataclass(frozen=True, slots=True)
class Ratios:
    """One figure of a comparison: its values in each pair."""

    comparison: str
    figure: str
    new: Sequence[float]
    old: Sequence[float]

    @property
    def ratios(self) -> list[float]:
        """New over old, pair by pair."""
        return [new / old for new, old in zip(self.new, self.old, strict=True)]


def compare(names: Sequence[str], scale: Scale, old: Checkout, into: Path) -> None:
    """Run comparisons, print every pair, and write them as JSON. Raises Wrong if a run's result is wrong."""
    results: list[Ratios] = []
    with Bench() as bench:
        for comparison in COMPARISONS:
            if comparison.name in names:
                print(f"comparing {comparison.name}", file=sys.stderr, flush=True)
                found = _compare(comparison, bench, scale, old.python)
                results += found
                print(table(found), flush=True)
        busiest = bench.busiest
    into.mkdir(parents=True, exist_ok=True)
    about = {"old": old.commit, "scale": scale.factor, "pairs": scale.rounds, "sink_share_of_a_core": round(busiest, 2)}
    figures = [
        {"comparison": one.comparison, "figure": one.figure, "new": one.new, "old": one.old, "ratios": one.ratios}
        for one in results
    ]
    (into / f"against-{old.commit[:12]}.json").write_text(json.dumps({**about, "figures": figures}, indent=1) + "\n")
    print(f"The sink used {busiest:.0%} of a core at most.")


def _compare(comparison: Comparison, bench: Bench, scale: Scale, old_python: str) -> list[Ratios]:
    runs = pairs(
        scale.rounds,
        lambda: comparison.run(bench, scale, sys.executable),
        lambda: comparison.run(bench, scale, old_python),
    )
    names = runs[0][0].keys()
    return [
        Ratios(comparison.name, name, [new[name] for new, _ in runs], [old[name] for _, old in runs]) for name in names
    ]


def table(results: Sequence[Ratios]) -> str:
    """Return a line for each figure: the medians, the median ratio, and the ratio of every pair."""
    lines = []
    for one in results:
        medians = f"new {median(one.new):,.4g}, old {median(one.old):,.4g}"
        each = " ".join(f"{ratio:.2f}" for ratio in one.ratios)
        lines.append(f"{one.comparison}: {one.figure}: {medians}, new/old {median(one.ratios):.2f} [{each}]")
    return "\n".join(lines)


def _delivery(
    kind: Webhooks, *, embedded: bool = False, processes: int = 1, settings: Mapping[str, str] | None = None
) -> Callable[[Bench, Scale, str], Figures]:
    def run(bench: Bench, scale: Scale, python: str) -> Figures:
        sized = Webhooks(kind.count if kind.count < 100 else scale.of(kind.count, 100), kind.path, kind.template)
        place = bench.embedded(python) if embedded else bench.on_postgres(settings, python)
        with place as installation:
            events = publish_backlog(installation, bench.sink.url, scale.of(EVENTS, 200), sized)
            bench.sink.report()
            deliver = installation.serve() if embedded else installation.worker(processes)
            postgres_before = 0.0 if embedded else bench.postgres_cpu()
            patience = PATIENCE_SECONDS + events / SLOWEST
            done = deliver_backlog(installation, events, deliver, lambda: bench.sink.until(events, patience))
            received = bench.sink.report()
            if (received.requests, received.body_bytes) != (events, events * BODY_BYTES):
                raise Wrong(f"{received.requests} requests of {received.body_bytes} bytes came for {events} events")
            figures = {
                "events/s": events / (done - received.first),
                "worker CPU, µs an event": installation.cpu / events * 1e6,
            }
            if not embedded:
                figures["Postgres CPU, µs an event"] = (bench.postgres_cpu() - postgres_before) / events * 1e6
            return figures

    return run


def _latency(bench: Bench, scale: Scale, python: str) -> Figures:
    # Both sides of a pair get the same pauses, and each pair others.
    lot = random.Random(0)  # noqa: S311 - pauses are no secrets
    commit, request = times_to_arrive(bench, scale.of(COMMITS, 20), lot, python)
    return {
        f"{name}, {share} ms": percentile(times, number)
        for name, times in (("commit to received", commit), ("request to received", request))
        for share, number in (("p50", 50), ("p99", 99))
    }


COMPARISONS = (
    Comparison("first", "delivery, Postgres and Redis, sendJson", _delivery(Webhooks())),
    Comparison("liquid", "delivery, a Liquid body", _delivery(Webhooks(template=LIQUID))),
    Comparison("embedded", "delivery on the embedded default", _delivery(Webhooks(), embedded=True)),
    Comparison("many", "delivery to 10,000 webhooks", _delivery(Webhooks(10_000))),
    Comparison("commit", "commit and request to received, light load", _latency),
    Comparison(
        "processes",
        "2 worker processes, answers after 50 ms",
        _delivery(Webhooks(path="/wait/50/"), processes=2, settings={"RINGBACK_WORKER_CONCURRENCY": str(CONCURRENCY)}),
    ),
)
