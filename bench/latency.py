"""Latency: from a commit to the request at the endpoint, and from an event's due time to its first attempt.

Postgres reports when a transaction committed (track_commit_timestamp), the sink when a request arrived. Both use the
same clock.
"""

import random
import sys
import time
from collections.abc import Mapping

from bench.client import Client
from bench.due import Webhooks, deliver_batch, fill
from bench.figures import Figure, Group, Measured, Scale, format_count, percentile
from bench.installation import Bench, Installation
from bench.load import WrongResult
from ringback.models.ids import Prefix, encode
from tests.support.deliveries import TRACK_LEADS, create_webhook
from tests.support.patience import PATIENCE_SECONDS

CALLBACK = 'mutation { requestCallback(input: {name: "Ada", phone: "+1 555 0100"}) { lead { id } errors { message } } }'
COMMITS = 300
#: Commits that warm the program up and do not count.
WARM_UP = 10
#: Minimum and maximum time between two commits: light load.
PAUSE_SECONDS = (0.02, 0.1)
#: Due events per second.
RATE = 1_000
#: Duration of that rate.
SECONDS = 30

#: Commit times of events.
_COMMITTED = """
SELECT event.id AS event, extract(epoch FROM pg_xact_commit_timestamp(change.xmin))::float8 AS at
FROM ringback_event event JOIN ringback_change change ON change.id = event.change_id
"""
#: Leads of events.
_LEADS = """
SELECT event.id AS event, change.object_id AS lead
FROM ringback_event event JOIN ringback_change change ON change.id = event.change_id
"""
#: Due times of events.
_DUE = "SELECT id AS event, extract(epoch FROM next_attempt_at)::float8 AS at FROM ringback_event"


def _measure_from_commit(bench: Bench, scale: Scale) -> Measured:
    commits = scale.of(COMMITS, 20)
    p50, p99 = [], []
    for number in range(scale.rounds):
        pauses = random.Random(number)  # noqa: S311 - pauses are not secret
        from_commit, _ = times_to_arrive(bench, commits, pauses)
        p50.append(percentile(from_commit, 50))
        p99.append(percentile(from_commit, 99))
    size = f"{format_count(commits, 'commit')}, {format_count(scale.rounds, 'time')}"
    return Measured(size, {"commit-p50": p50, "commit-p99": p99})


def times_to_arrive(
    bench: Bench, commits: int, pauses: random.Random, python: str = sys.executable
) -> tuple[list[float], list[float]]:
    """Return the times from commit to arrival, and from request to arrival, in milliseconds."""
    requested_by_lead: dict[str, float] = {}
    with bench.open_on_postgres(python=python) as installation, installation.api() as api, installation.worker():
        api.query(TRACK_LEADS)
        create_webhook(api, f"{bench.sink.url}/timed/", sendJson=True, retryDelaysSeconds=[0])
        with Client(api) as client:
            for number in range(WARM_UP + commits):
                if number == WARM_UP:
                    bench.sink.until(WARM_UP, PATIENCE_SECONDS)
                    bench.sink.report()
                requested_at = time.time()
                requested_by_lead[client.query(CALLBACK)["requestCallback"]["lead"]["id"]] = requested_at
                time.sleep(pauses.uniform(*PAUSE_SECONDS))
        bench.sink.until(commits, PATIENCE_SECONDS)
        committed = _event_times(installation, _COMMITTED)
        leads = {encode(Prefix.EVENT, row["event"]): row["lead"] for row in installation.fetch(_LEADS)}
    received = bench.sink.report()
    requested = {event: requested_by_lead[lead] for event, lead in leads.items()}
    return (
        _delays(received.requests, received.arrivals, committed, commits),
        _delays(received.requests, received.arrivals, requested, commits),
    )


def _measure_lateness(bench: Bench, scale: Scale) -> Measured:
    seconds = scale.of(SECONDS, 1)
    p50, p99 = [], []
    for _ in range(scale.rounds):
        delays = _first_attempt_delays(bench, seconds)
        p50.append(percentile(delays, 50))
        p99.append(percentile(delays, 99))
    size = f"{seconds} s of {RATE:,} events/s, {format_count(scale.rounds, 'time')}"
    return Measured(size, {"lateness": p99}, {"lateness p50, ms": p50})


def _first_attempt_delays(bench: Bench, seconds: int) -> list[float]:
    events = seconds * RATE
    with bench.open_on_postgres() as installation:
        batch = fill(installation, bench.sink.url, events, Webhooks(path="/timed/"), over_seconds=seconds)
        due = _event_times(installation, _DUE)
        bench.sink.report()

        def wait_for_requests() -> None:
            if time.time() > min(due.values()):
                raise WrongResult("The worker started after the first event was due.")
            bench.sink.until(events, max(due.values()) - time.time() + seconds + PATIENCE_SECONDS)

        deliver_batch(installation, batch, installation.worker(), wait_for_requests)
    received = bench.sink.report()
    return _delays(received.requests, received.arrivals, due, events)


def _event_times(installation: Installation, statement: str) -> dict[str, float]:
    """Return a time for each event id, in seconds of the wall clock."""
    return {encode(Prefix.EVENT, row["event"]): row["at"] for row in installation.fetch(statement)}


def _delays(requests: int, arrivals: Mapping[str, float], starts: Mapping[str, float], expected: int) -> list[float]:
    """Return the milliseconds from start to arrival of each event. Raises WrongResult on duplicates or gaps."""
    if (requests, len(arrivals)) != (expected, expected) or not arrivals.keys() <= starts.keys():
        raise WrongResult(
            f"{requests} requests of {len(arrivals)} events arrived, not one of each of {expected} events"
        )
    return [(at - starts[event]) * 1000 for event, at in arrivals.items()]


GROUPS = (
    Group(
        "commit",
        [
            Figure("commit-p50", "commit to received, schedule [0], light load, p50", "ms", 20, 5, at_most=True),
            Figure("commit-p99", "the same, p99", "ms", 100, 20, at_most=True),
        ],
        _measure_from_commit,
    ),
    Group(
        "lateness",
        [Figure("lateness", "first attempt's lateness at 1,000 events/s, p99", "ms", 100, 20, at_most=True)],
        _measure_lateness,
    ),
)
