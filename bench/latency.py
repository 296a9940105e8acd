"""How soon: from a commit to the request that tells of it, and from an event's moment to its first attempt.

When a transaction was committed is Postgres's word (track_commit_timestamp); when a request came, the sink's. Both have
the same clock.
"""

import random
import sys
import time
from collections.abc import Mapping

from bench.client import Client
from bench.due import Webhooks, fill, recorded
from bench.figures import Figure, Group, Measured, Scale, counted, percentile
from bench.installation import Bench, Installation
from bench.load import Wrong
from ringback.models.ids import Prefix, encode
from tests.support.deliveries import TRACK_LEADS, create_webhook
from tests.support.patience import PATIENCE_SECONDS

CALLBACK = 'mutation { requestCallback(input: {name: "Ada", phone: "+1 555 0100"}) { lead { id } errors { message } } }'
COMMITS = 300
#: Commits before those that count, so that the program is warm.
WARM_UP = 10
#: The least and the longest time between two commits, in seconds: light load.
PAUSE_SECONDS = (0.02, 0.1)
RATE = 1_000
#: How long events are due at that rate.
SECONDS = 30

_COMMITTED = """
SELECT event.id AS event, extract(epoch FROM pg_xact_commit_timestamp(change.xmin))::float8 AS at
FROM ringback_event event JOIN ringback_change change ON change.id = event.change_id
"""
_LEADS = """
SELECT event.id AS event, change.object_id AS lead
FROM ringback_event event JOIN ringback_change change ON change.id = event.change_id
"""
_DUE = "SELECT id AS event, extract(epoch FROM next_attempt_at)::float8 AS at FROM ringback_event"


def _from_commit(bench: Bench, scale: Scale) -> Measured:
    commits = scale.of(COMMITS, 20)
    p50, p99 = [], []
    for number in range(scale.rounds):
        taken, _ = times_to_arrive(bench, commits, random.Random(number))  # noqa: S311 - pauses are no secrets
        p50.append(percentile(taken, 50))
        p99.append(percentile(taken, 99))
    size = f"{counted(commits, 'commit')}, {counted(scale.rounds, 'time')}"
    return Measured(size, {"commit-p50": p50, "commit-p99": p99})


def times_to_arrive(
    bench: Bench, commits: int, lot: random.Random, python: str = sys.executable
) -> tuple[list[float], list[float]]:
    """Return how long events took to arrive after their commit, and after the request for it, in milliseconds."""
    requested: dict[str, float] = {}
    with bench.on_postgres(python=python) as installation, installation.api() as api, installation.worker():
        api.query(TRACK_LEADS)
        create_webhook(api, f"{bench.sink.url}/timed/", sendJson=True, retryDelaysSeconds=[0])
        with Client(api) as client:
            for number in range(WARM_UP + commits):
                if number == WARM_UP:
                    bench.sink.until(WARM_UP, PATIENCE_SECONDS)
                    bench.sink.report()
                asked_at = time.time()
                requested[client.query(CALLBACK)["requestCallback"]["lead"]["id"]] = asked_at
                time.sleep(lot.uniform(*PAUSE_SECONDS))
        bench.sink.until(commits, PATIENCE_SECONDS)
        committed = _moments(installation, _COMMITTED)
        leads = {encode(Prefix.EVENT, row["event"]): row["lead"] for row in installation.fetch(_LEADS)}
    received = bench.sink.report()
    asked = {event: requested[lead] for event, lead in leads.items()}
    return (
        _after(received.requests, received.arrivals, committed, commits),
        _after(received.requests, received.arrivals, asked, commits),
    )


def _lateness(bench: Bench, scale: Scale) -> Measured:
    seconds = scale.of(SECONDS, 1)
    p50, p99 = [], []
    for _ in range(scale.rounds):
        late = _late(bench, seconds)
        p50.append(percentile(late, 50))
        p99.append(percentile(late, 99))
    size = f"{seconds} s of {RATE:,} events/s, {counted(scale.rounds, 'time')}"
    return Measured(size, {"lateness": p99}, {"lateness p50, ms": p50})


def _late(bench: Bench, seconds: int) -> list[float]:
    events = seconds * RATE
    with bench.on_postgres() as installation:
        batch = fill(installation, bench.sink.url, events, Webhooks(path="/timed/"), over_seconds=seconds)
        due = _moments(installation, _DUE)
        bench.sink.report()

        def arrived() -> None:
            if time.time() > min(due.values()):
                raise Wrong("the worker started only when the first event was due already")
            bench.sink.until(events, max(due.values()) - time.time() + seconds + PATIENCE_SECONDS)

        recorded(installation, batch, installation.worker(), arrived)
    received = bench.sink.report()
    return _after(received.requests, received.arrivals, due, events)


def _moments(installation: Installation, statement: str) -> dict[str, float]:
    """A moment of each event, in seconds of the wall clock."""
    return {encode(Prefix.EVENT, row["event"]): row["at"] for row in installation.fetch(statement)}


def _after(requests: int, arrivals: Mapping[str, float], begun: Mapping[str, float], expected: int) -> list[float]:
    """How long after its moment each event arrived, in milliseconds; raises Wrong unless each came once."""
    if (requests, len(arrivals)) != (expected, expected) or not arrivals.keys() <= begun.keys():
        raise Wrong(f"{requests} requests of {len(arrivals)} events came, not of {expected}")
    return [(at - begun[event]) * 1000 for event, at in arrivals.items()]


GROUPS = (
    Group(
        "commit",
        [
            Figure("commit-p50", "commit to received, schedule [0], light load, p50", "ms", 20, 5, at_most=True),
            Figure("commit-p99", "the same, p99", "ms", 100, 20, at_most=True),
        ],
        _from_commit,
    ),
    Group(
        "lateness",
        [Figure("lateness", "first attempt's lateness at 1,000 events/s, p99", "ms", 100, 20, at_most=True)],
        _lateness,
    ),
)
