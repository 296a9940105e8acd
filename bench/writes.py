"""Changes that the API records per second, on Postgres, in one process, with one matching webhook."""

import time
from typing import Any, NamedTuple

from bench.due import item
from bench.figures import Figure, Group, Measured, Scale, Side, compare_pairs, format_count
from bench.installation import Bench, Installation
from bench.load import CONNECTIONS, Request, WrongResult, load
from tests.support.deliveries import TRACK_LEADS, create_webhook
from tests.support.program import Program

DECLARE = """
mutation ($input: DeclareModelInput!) { declareModel(input: $input) { model { id } errors { field message } } }
"""
PUBLISH = """
mutation ($input: PublishChangesInput!) {
  publishChanges(input: $input) { changes { objectId eventIds duplicate } errors { code field message } }
}
"""
CALLBACK = """
mutation { requestCallback(input: {name: "Ada", phone: "+1 555 0100"}) { accepted lead { id } errors { message } } }
"""
#: Changes per call of publishChanges.
CHANGES = 100
#: Calls of publishChanges in flight.
PUBLISHERS = 4
#: Requests have ended once the numbers of rows are unchanged for this long.
SETTLE_SECONDS = 0.3
#: Duration of each measurement.
SECONDS = 4.0
SCHEMA = {
    "type": "object",
    "properties": {name: {"type": "string"} for name in item("part_0000001")},
    "required": ["id", "name"],
}


def _measure_publishing(bench: Bench, scale: Scale) -> Measured:
    seconds = max(SECONDS * scale.factor, 1.0)
    with bench.open_on_postgres() as installation, installation.api() as api:
        model = {"name": "part", "label": "Part", "jsonSchema": SCHEMA, "sample": item("part_0000001")}
        payload = api.query(DECLARE, {"input": model})["declareModel"]
        if payload["errors"]:
            raise WrongResult(f"{payload['errors']}")
        create_webhook(api, bench.sink.url, model="part", actions=["UPDATED"], sendJson=True)
        changes = [_change(f"part_{number:07}") for number in range(CHANGES)]
        request = Request(f"{api.url}/graphql", PUBLISH, None, api.token, {"input": {"changes": changes}})

        def measure(seconds: float) -> float:
            calls = measure_writes(
                installation, api, request, seconds, connections=PUBLISHERS, changes_per_request=CHANGES
            )
            return calls * CHANGES

        measure(1.0)
        rates = [measure(seconds) for _ in range(scale.rounds)]
    size = f"{seconds:g} s of {CHANGES} a call, {PUBLISHERS} in flight, {format_count(scale.rounds, 'time')}"
    return Measured(size, {"publish": rates})


def _change(object_id: str) -> dict[str, Any]:
    return {
        "model": "part",
        "action": "UPDATED",
        "objectId": object_id,
        "item": item(object_id),
        "changedFields": ["name"],
    }


def _measure_callbacks(bench: Bench, scale: Scale) -> Measured:
    seconds = max(SECONDS * scale.factor, 1.0)
    with bench.open_on_postgres() as installation, installation.api() as api:
        api.query(TRACK_LEADS)
        create_webhook(api, bench.sink.url, sendJson=True)
        url = f"{api.url}/graphql"
        trivial = Request(url, "{ __typename }", {"data": {"__typename": "Query"}}, api.token)
        callback = Request(url, CALLBACK, None, api.token)

        def measure_trivial(seconds: float = seconds) -> float:
            return load(trivial, seconds, _process_id(api)).rate

        def measure_callbacks(seconds: float = seconds) -> float:
            return measure_writes(installation, api, callback, seconds, connections=CONNECTIONS, changes_per_request=1)

        measure_trivial(1.0)
        measure_callbacks(1.0)
        return compare_pairs(
            "callback",
            f"{seconds:g} s each, {CONNECTIONS} in flight",
            scale.rounds,
            Side("{ __typename }, requests/s", measure_trivial),
            Side("requestCallback, requests/s", measure_callbacks),
        )


def measure_writes(
    installation: Installation,
    api: Program,
    request: Request,
    seconds: float,
    *,
    connections: int,
    changes_per_request: int,
) -> float:
    """Return the requests per second. Raises WrongResult unless every change of every request made one event."""
    before = count_rows(installation)
    measured = load(request, seconds, _process_id(api), connections)
    after = count_rows(installation)
    changes, events = after.changes - before.changes, after.events - before.events
    # Requests in flight at the end are recorded too, but autocannon does not wait for their responses.
    unanswered = changes - measured.answers * changes_per_request
    if changes != events or not 0 <= unanswered <= connections * changes_per_request:
        raise WrongResult(
            f"{measured.answers} responses for {changes} changes and {events} events, "
            f"expected {changes_per_request} per response"
        )
    return measured.rate


class RowCounts(NamedTuple):
    """The numbers of recorded changes and events."""

    changes: int
    events: int


def count_rows(installation: Installation) -> RowCounts:
    """Return the numbers of changes and events, once they no longer grow."""
    counts, previous = _read_counts(installation), None
    while counts != previous:
        time.sleep(SETTLE_SECONDS)
        counts, previous = _read_counts(installation), counts
    return counts


def _read_counts(installation: Installation) -> RowCounts:
    query = "SELECT (SELECT count(*) FROM ringback_change), (SELECT count(*) FROM ringback_event)"
    ((changes, events),) = installation.fetch(query)
    return RowCounts(changes, events)


def _process_id(program: Program) -> int:
    assert program.process is not None
    return program.process.pid


GROUPS = (
    Group(
        "publish",
        [Figure("publish", "publishChanges, 100 a call, one api process", "changes/s", 4_000, 8_000)],
        _measure_publishing,
    ),
    Group(
        "callback",
        [Figure("callback", "requestCallback with one matching webhook, 32 in flight", "× { __typename }", 0.25, 0.5)],
        _measure_callbacks,
    ),
)
