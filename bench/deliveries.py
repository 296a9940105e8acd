"""How many deliveries a second, beside what the HTTP client alone can do, and beside a quieter life."""

import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager

from bench import history
from bench.due import BODY_BYTES, LIQUID, Batch, Webhooks, fill, recorded
from bench.figures import Figure, Group, Measured, Scale, compared
from bench.installation import Bench, Installation
from bench.load import Wrong
from tests.support.patience import PATIENCE_SECONDS

BARE, OURS = "bare loop, requests/s", "Ringback, events/s"
EVENTS = 20_000
#: Deliveries a second below which a machine is taken to have stopped.
SLOWEST = 50.0
UNIT = "× bare loop"


def bare(bench: Bench, requests: int) -> float:
    """Requests per second of the bare loop."""
    command = [sys.executable, "-m", "bench.bare", f"{bench.sink.url}/at-once/", str(requests), str(BODY_BYTES)]
    bench.sink.report()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    received = bench.sink.report()
    if (received.requests, received.body_bytes) != (requests, requests * BODY_BYTES):
        raise Wrong(f"the bare loop sent {received.requests} requests, {received.body_bytes} bytes")
    return float(json.loads(done.stdout)["rate"])


def delivered(bench: Bench, installation: Installation, batch: Batch, processes: int = 1) -> float:
    """Events per second, from the first request to the last one recorded; raises Wrong unless all came once."""
    bench.sink.report()
    deliver = installation.serve() if installation.settings.is_embedded else installation.worker(processes)
    patience = PATIENCE_SECONDS + batch.count / SLOWEST
    done = recorded(installation, batch, deliver, lambda: bench.sink.until(batch.count, patience))
    received = bench.sink.report()
    if (received.requests, received.body_bytes) != (batch.count, batch.count * BODY_BYTES):
        raise Wrong(f"{received.requests} requests of {received.body_bytes} bytes came for {batch.count} events")
    bench.note("worker CPU, µs an event", installation.cpu / batch.count * 1e6)
    bench.note("worker's share of a core", installation.cpu / (done - received.first))
    return batch.count / (done - received.first)


def once(bench: Bench, place: Callable[[], AbstractContextManager[Installation]], events: int, kind: Webhooks) -> float:
    """Events per second in an installation made for it."""
    with place() as installation:
        return delivered(bench, installation, fill(installation, bench.sink.url, events, kind))


def over_bare(name: str, *, webhooks: int = 20, template: str = "", embedded: bool = False) -> Group:
    """A figure beside the bare loop."""
    texts = {
        "first": ("delivery, Postgres and Redis, sendJson", 0.5, 0.7),
        "liquid": ("delivery, a Liquid body of five fields and a loop", 0.35, 0.5),
        "embedded": ("delivery on the embedded default", 0.35, 0.5),
        "many": ("delivery to 10,000 webhooks of 2 events each", 0.35, 0.5),
    }
    title, promised, aim = texts[name]

    def measure(bench: Bench, scale: Scale) -> Measured:
        events = scale.of(EVENTS, 200)
        kind = Webhooks(webhooks if webhooks < 100 else scale.of(webhooks, 100), template=template)
        place = bench.embedded if embedded else bench.on_postgres
        size = f"{events:,} events, {kind.count:,} webhooks"
        return compared(
            name, size, scale.rounds,
            (BARE, lambda: bare(bench, events)), (OURS, lambda: once(bench, place, events, kind)),
        )  # fmt: skip

    return Group(name, [Figure(name, title, UNIT, promised, aim)], measure)


def _old(bench: Bench, scale: Scale) -> Measured:
    events, kind = scale.of(EVENTS, 200), Webhooks()
    filled = history.filled(bench, scale)

    def among_old() -> float:
        return delivered(bench, filled, fill(filled, bench.sink.url, events, kind))

    return compared(
        "old", f"{events:,} events, {history.size(scale)}", scale.rounds,
        ("empty database, events/s", lambda: once(bench, bench.on_postgres, events, kind)),
        ("filled database, events/s", among_old),
    )  # fmt: skip


def _hanging(bench: Bench, scale: Scale) -> Measured:
    healthy, hanging = Webhooks(16), Webhooks(4, path="/hang/")
    events = scale.of(2 * EVENTS, 320)

    def alone() -> float:
        with bench.on_postgres() as installation:
            return delivered(bench, installation, fill(installation, bench.sink.url, events, healthy))

    def beside() -> float:
        with bench.on_postgres() as installation:
            batch = fill(installation, bench.sink.url, events * 5 // 4, healthy, hanging)
            return delivered(bench, installation, batch)

    return compared(
        "hanging", f"{events:,} events of 16 healthy webhooks", scale.rounds,
        ("none hangs, healthy events/s", alone), ("4 of 20 hang, healthy events/s", beside),
    )  # fmt: skip


#: Attempts under way in one worker process, where that is to be what limits it.
CONCURRENCY = 25


def _processes(bench: Bench, scale: Scale) -> Measured:
    events, kind = scale.of(EVENTS, 400), Webhooks(path="/wait/50/")

    def with_processes(number: int) -> float:
        with bench.on_postgres({"RINGBACK_WORKER_CONCURRENCY": str(CONCURRENCY)}) as installation:
            batch = fill(installation, bench.sink.url, events, kind)
            return delivered(bench, installation, batch, number)

    return compared(
        "processes", f"{events:,} events, {CONCURRENCY} under way in a process", scale.rounds,
        ("1 process, events/s", lambda: with_processes(1)), ("2 processes, events/s", lambda: with_processes(2)),
    )  # fmt: skip


GROUPS = (
    over_bare("first"),
    over_bare("liquid", template=LIQUID),
    over_bare("embedded", embedded=True),
    over_bare("many", webhooks=10_000),
    Group("hanging", [Figure("hanging", "healthy webhooks while 4 of 20 hang", "× none hanging", 0.9, 1)], _hanging),
    Group(
        "processes", [Figure("processes", "2 worker processes, answers after 50 ms", "× 1 process", 1.8, 2)], _processes
    ),
)
#: On the database with a past.
OLD = Group(
    "old",
    [Figure("old", "delivery beside 1,000,000 waiting retries and 5,000,000 old attempts", "× empty", 0.9, 1)],
    _old,
)
