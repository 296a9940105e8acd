"""`python -m bench --against COMMIT`: compares this tree with another commit, in pairs, under the same load.

Both programs get their load through the public API and deliver to the same sink. A pair is one run of each, one right
after the other; they alternate in going first. The result is the median of the pairs' ratios. This tree is "new", the
commit is "old".
"""

import json
import random
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from bench.backlog import deliver_backlog, publish_backlog
from bench.checkout import Checkout
from bench.deliveries import CONCURRENCY, EVENTS, MIN_RATE
from bench.due import BODY_BYTES, LIQUID, Webhooks
from bench.figures import Scale, percentile, run_pairs
from bench.installation import Bench
from bench.latency import COMMITS, times_to_arrive
from bench.load import WrongResult
from tests.support.patience import PATIENCE_SECONDS

#: The figures of one run, by a name that includes the unit.
Figures = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Comparison:
    """A benchmark for both sides. `run` takes the Python of the program to measure."""

    name: str
    title: str
    run: Callable[[Bench, Scale, str], Figures]


@dataclass(frozen=True, slots=True)
class Ratios:
    """The values of one figure, one for each pair."""

    comparison: str
    figure: str
    new: Sequence[float]
    old: Sequence[float]

    @property
    def ratios(self) -> list[float]:
        """New divided by old, for each pair."""
        return [new / old for new, old in zip(self.new, self.old, strict=True)]


def compare(names: Sequence[str], scale: Scale, old: Checkout, into: Path) -> None:
    """Run comparisons, print every pair, and write all as JSON. Raises WrongResult."""
    results: list[Ratios] = []
    with Bench() as bench:
        for comparison in COMPARISONS:
            if comparison.name in names:
                print(f"comparing {comparison.name}", file=sys.stderr, flush=True)
                ratios = _compare(comparison, bench, scale, old.python)
                results += ratios
                print(table(ratios), flush=True)
        busiest = bench.busiest
    into.mkdir(parents=True, exist_ok=True)
    about = {"old": old.commit, "scale": scale.factor, "pairs": scale.rounds, "sink_share_of_a_core": round(busiest, 2)}
    figures = [{**asdict(result), "ratios": result.ratios} for result in results]
    (into / f"against-{old.commit[:12]}.json").write_text(json.dumps({**about, "figures": figures}, indent=1) + "\n")
    print(f"The sink used {busiest:.0%} of a core at most.")


def _compare(comparison: Comparison, bench: Bench, scale: Scale, old_python: str) -> list[Ratios]:
    runs = run_pairs(
        scale.rounds,
        lambda: comparison.run(bench, scale, sys.executable),
        lambda: comparison.run(bench, scale, old_python),
    )
    names = runs[0][0].keys()
    results = []
    for name in names:
        new_values, old_values = [new[name] for new, _ in runs], [old[name] for _, old in runs]
        results.append(Ratios(comparison.name, name, new_values, old_values))
    return results


def table(results: Sequence[Ratios]) -> str:
    """Return one line per figure: the medians, the median ratio, and the ratio of every pair."""
    lines = []
    for result in results:
        medians = f"new {median(result.new):,.4g}, old {median(result.old):,.4g}"
        ratios = " ".join(f"{ratio:.2f}" for ratio in result.ratios)
        lines.append(f"{result.comparison}: {result.figure}: {medians}, new/old {median(result.ratios):.2f} [{ratios}]")
    return "\n".join(lines)


def _delivery_run(
    kind: Webhooks, *, embedded: bool = False, processes: int = 1, settings: Mapping[str, str] | None = None
) -> Callable[[Bench, Scale, str], Figures]:
    def run(bench: Bench, scale: Scale, python: str) -> Figures:
        sized = kind.at_scale(scale)
        opened = bench.open_embedded(python) if embedded else bench.open_on_postgres(settings, python)
        with opened as installation:
            events = publish_backlog(installation, bench.sink.url, scale.of(EVENTS, 200), sized)
            bench.sink.report()
            deliver = installation.serve() if embedded else installation.worker(processes)
            postgres_before = 0.0 if embedded else bench.postgres_cpu()
            patience = PATIENCE_SECONDS + events / MIN_RATE
            done = deliver_backlog(installation, events, deliver, lambda: bench.sink.until(events, patience))
            received = bench.sink.report()
            if (received.requests, received.body_bytes) != (events, events * BODY_BYTES):
                raise WrongResult(
                    f"{received.requests} requests of {received.body_bytes} bytes arrived for {events} events"
                )
            figures = {
                "events/s": events / (done - received.first),
                "worker CPU, µs per event": installation.cpu / events * 1e6,
            }
            if not embedded:
                figures["Postgres CPU, µs per event"] = (bench.postgres_cpu() - postgres_before) / events * 1e6
            return figures

    return run


def _measure_latency(bench: Bench, scale: Scale, python: str) -> Figures:
    # The same pauses on both sides.
    pauses = random.Random(0)  # noqa: S311 - pauses are not secret
    commit, request = times_to_arrive(bench, scale.of(COMMITS, 20), pauses, python)
    return {
        "commit to received, p50 ms": percentile(commit, 50),
        "commit to received, p99 ms": percentile(commit, 99),
        "request to received, p50 ms": percentile(request, 50),
        "request to received, p99 ms": percentile(request, 99),
    }


COMPARISONS = (
    Comparison("first", "delivery, Postgres and Redis, sendJson", _delivery_run(Webhooks())),
    Comparison("liquid", "delivery, a Liquid body", _delivery_run(Webhooks(template=LIQUID))),
    Comparison("embedded", "delivery on the embedded default", _delivery_run(Webhooks(), embedded=True)),
    Comparison("many", "delivery to 10,000 webhooks", _delivery_run(Webhooks(10_000))),
    Comparison("commit", "commit and request to received, light load", _measure_latency),
    Comparison(
        "processes",
        "2 worker processes, answers after 50 ms",
        _delivery_run(
            Webhooks(path="/wait/50/"), processes=2, settings={"RINGBACK_WORKER_CONCURRENCY": str(CONCURRENCY)}
        ),
    ),
)
