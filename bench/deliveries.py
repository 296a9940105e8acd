"""Deliveries per second, compared with the bare HTTP client and with easier conditions."""

import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager

from bench import history
from bench.due import BODY_BYTES, LIQUID, Batch, Webhooks, deliver_batch, fill
from bench.figures import Figure, Group, Measured, Scale, Side, compare_pairs
from bench.installation import Bench, Installation
from bench.load import WrongResult
from tests.support.patience import PATIENCE_SECONDS

BARE, OURS = "bare loop, requests/s", "Ringback, events/s"
EVENTS = 20_000
#: Below this rate, in events/s, the benchmark gives up waiting.
MIN_RATE = 50.0
UNIT = "× bare loop"


def measure_bare_loop(bench: Bench, requests: int) -> float:
    """Return the requests per second of the bare loop."""
    command = [sys.executable, "-m", "bench.bare", f"{bench.sink.url}/at-once/", str(requests), str(BODY_BYTES)]
    bench.sink.report()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    received = bench.sink.report()
    if (received.requests, received.body_bytes) != (requests, requests * BODY_BYTES):
        raise WrongResult(f"the bare loop sent {received.requests} requests, {received.body_bytes} bytes")
    return float(json.loads(done.stdout)["rate"])


def measure_batch(bench: Bench, installation: Installation, batch: Batch, processes: int = 1) -> float:
    """Deliver a batch. Return events per second, from the first request to the last recorded result.

    Raises WrongResult unless every event arrived once.
    """
    bench.sink.report()
    deliver = installation.serve() if installation.settings.is_embedded else installation.worker(processes)
    patience = PATIENCE_SECONDS + batch.count / MIN_RATE
    done = deliver_batch(installation, batch, deliver, lambda: bench.sink.until(batch.count, patience))
    received = bench.sink.report()
    if (received.requests, received.body_bytes) != (batch.count, batch.count * BODY_BYTES):
        raise WrongResult(
            f"{received.requests} requests of {received.body_bytes} bytes arrived for {batch.count} events"
        )
    bench.note("worker CPU, µs per event", installation.cpu / batch.count * 1e6)
    bench.note("worker's share of a core", installation.cpu / (done - received.first))
    return batch.count / (done - received.first)


def measure_fresh(
    bench: Bench, open_fresh: Callable[[], AbstractContextManager[Installation]], events: int, kind: Webhooks
) -> float:
    """Return the events per second of a new installation."""
    with open_fresh() as installation:
        return measure_batch(bench, installation, fill(installation, bench.sink.url, events, kind))


def _compare_with_bare_loop(figure: Figure, webhooks: Webhooks, *, embedded: bool = False) -> Group:
    def measure(bench: Bench, scale: Scale) -> Measured:
        events, kind = scale.of(EVENTS, 200), webhooks.at_scale(scale)
        open_fresh = bench.open_embedded if embedded else bench.open_on_postgres
        return compare_pairs(
            figure.name,
            f"{events:,} events, {kind.count:,} webhooks",
            scale.rounds,
            Side(BARE, lambda: measure_bare_loop(bench, events)),
            Side(OURS, lambda: measure_fresh(bench, open_fresh, events, kind)),
        )

    return Group(figure.name, [figure], measure)


def _measure_beside_old(bench: Bench, scale: Scale) -> Measured:
    events, kind = scale.of(EVENTS, 200), Webhooks()
    filled = history.open_filled(bench, scale)

    def measure_filled() -> float:
        return measure_batch(bench, filled, fill(filled, bench.sink.url, events, kind))

    return compare_pairs(
        "old",
        f"{events:,} events, {history.describe_size(scale)}",
        scale.rounds,
        Side("empty database, events/s", lambda: measure_fresh(bench, bench.open_on_postgres, events, kind)),
        Side("filled database, events/s", measure_filled),
    )


def _measure_healthy(bench: Bench, scale: Scale) -> Measured:
    healthy, hanging = Webhooks(16), Webhooks(4, path="/hang/")
    events = scale.of(2 * EVENTS, 320)

    def measure_beside_hanging() -> float:
        with bench.open_on_postgres() as installation:
            batch = fill(installation, bench.sink.url, events * 5 // 4, healthy, hanging)
            return measure_batch(bench, installation, batch)

    return compare_pairs(
        "hanging",
        f"{events:,} events of 16 healthy webhooks",
        scale.rounds,
        Side("none hangs, healthy events/s", lambda: measure_fresh(bench, bench.open_on_postgres, events, healthy)),
        Side("4 of 20 hang, healthy events/s", measure_beside_hanging),
    )


#: Attempts in flight per worker process: so few that they, and not the CPU, limit the rate.
CONCURRENCY = 25


def _measure_two_processes(bench: Bench, scale: Scale) -> Measured:
    events, kind = scale.of(EVENTS, 400), Webhooks(path="/wait/50/")

    def measure_processes(number: int) -> float:
        with bench.open_on_postgres({"RINGBACK_WORKER_CONCURRENCY": str(CONCURRENCY)}) as installation:
            batch = fill(installation, bench.sink.url, events, kind)
            return measure_batch(bench, installation, batch, number)

    return compare_pairs(
        "processes",
        f"{events:,} events, {CONCURRENCY} in flight per process",
        scale.rounds,
        Side("1 process, events/s", lambda: measure_processes(1)),
        Side("2 processes, events/s", lambda: measure_processes(2)),
    )


GROUPS = (
    _compare_with_bare_loop(Figure("first", "delivery, Postgres and Redis, sendJson", UNIT, 0.5, 0.7), Webhooks()),
    _compare_with_bare_loop(
        Figure("liquid", "delivery, a Liquid body of five fields and a loop", UNIT, 0.35, 0.5),
        Webhooks(template=LIQUID),
    ),
    _compare_with_bare_loop(
        Figure("embedded", "delivery on the embedded default", UNIT, 0.35, 0.5), Webhooks(), embedded=True
    ),
    _compare_with_bare_loop(
        Figure("many", "delivery to 10,000 webhooks of 2 events each", UNIT, 0.35, 0.5), Webhooks(10_000)
    ),
    Group(
        "hanging",
        [Figure("hanging", "healthy webhooks while 4 of 20 hang", "× none hanging", 0.9, 1)],
        _measure_healthy,
    ),
    Group(
        "processes",
        [Figure("processes", "2 worker processes, answers after 50 ms", "× 1 process", 1.8, 2)],
        _measure_two_processes,
    ),
)
#: Runs on the filled database.
OLD = Group(
    "old",
    [Figure("old", "delivery beside 1,000,000 waiting retries and 5,000,000 old attempts", "× empty", 0.9, 1)],
    _measure_beside_old,
)
