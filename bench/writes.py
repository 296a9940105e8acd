"""How many changes a second the API takes in, on Postgres, in one process and with a webhook that matches each."""

import time
from typing import Any

from bench.due import item
from bench.figures import Figure, Group, Measured, Scale, compared, counted
from bench.installation import Bench, Installation
from bench.load import CONNECTIONS, Request, Wrong, load
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
#: Changes in a call of publishChanges.
CHANGES = 100
#: Calls of publishChanges under way at the same time.
PUBLISHERS = 4
#: How long nothing must have happened until nothing is under way, in seconds.
SETTLE_SECONDS = 0.3
#: How long each of a pair is measured, in seconds.
SECONDS = 4.0
SCHEMA = {
    "type": "object",
    "properties": {name: {"type": "string"} for name in item("part_0000001")},
    "required": ["id", "name"],
}


def _publishing(bench: Bench, scale: Scale) -> Measured:
    seconds = max(SECONDS * scale.factor, 1.0)
    with bench.on_postgres() as installation, installation.api() as api:
        declared = {"name": "part", "label": "Part", "jsonSchema": SCHEMA, "sample": item("part_0000001")}
        answer = api.query(DECLARE, {"input": declared})["declareModel"]
        if answer["errors"]:
            raise Wrong(f"{answer['errors']}")
        create_webhook(api, bench.sink.url, model="part", actions=["UPDATED"], sendJson=True)
        changes = [_change(f"part_{number:07}") for number in range(CHANGES)]
        request = Request(f"{api.url}/graphql", PUBLISH, None, api.token, {"input": {"changes": changes}})
        how = {"connections": PUBLISHERS, "changes": CHANGES}
        loaded(installation, api, request, 1.0, **how)
        rates = [loaded(installation, api, request, seconds, **how) * CHANGES for _ in range(scale.rounds)]
    size = f"{seconds:g} s of {CHANGES} a call, {PUBLISHERS} in flight, {counted(scale.rounds, 'time')}"
    return Measured(size, {"publish": rates})


def _change(object_id: str) -> dict[str, Any]:
    what = {"model": "part", "action": "UPDATED", "objectId": object_id}
    return {**what, "item": item(object_id), "changedFields": ["name"]}


def _callbacks(bench: Bench, scale: Scale) -> Measured:
    seconds = max(SECONDS * scale.factor, 1.0)
    with bench.on_postgres() as installation, installation.api() as api:
        api.query(TRACK_LEADS)
        create_webhook(api, bench.sink.url, sendJson=True)
        url = f"{api.url}/graphql"
        trivial = Request(url, "{ __typename }", {"data": {"__typename": "Query"}}, api.token)
        callback = Request(url, CALLBACK, None, api.token)

        def trivially(seconds: float = seconds) -> float:
            return load(trivial, seconds, process_of(api)).rate

        def callbacks(seconds: float = seconds) -> float:
            return loaded(installation, api, callback, seconds, connections=CONNECTIONS, changes=1)

        trivially(1.0)
        callbacks(1.0)
        return compared(
            "callback", f"{seconds:g} s each, {CONNECTIONS} in flight", scale.rounds,
            ("{ __typename }, requests/s", trivially), ("requestCallback, requests/s", callbacks),
        )  # fmt: skip


def loaded(
    installation: Installation, api: Program, request: Request, seconds: float, *, connections: int, changes: int
) -> float:
    """Requests a second; raises Wrong unless each made so many changes, and each of them an event."""
    before = recorded(installation)
    measured = load(request, seconds, process_of(api), connections)
    made, events = (now - then for now, then in zip(recorded(installation), before, strict=True))
    # Those under way at the end were taken, too, and their answers not waited for.
    if made != events or not 0 <= made - measured.answers * changes <= connections * changes:
        raise Wrong(
            f"{measured.answers} answers tell of {made} changes and {events} events, {changes} an answer expected"
        )
    return measured.rate


def process_of(program: Program) -> int:
    """Its id."""
    assert program.process is not None
    return program.process.pid


def recorded(installation: Installation) -> tuple[int, int]:
    """How many changes and events there are, once nothing is under way any more."""
    query = "SELECT (SELECT count(*) FROM ringback_change), (SELECT count(*) FROM ringback_event)"
    found, before = installation.fetch(query), None
    while found != before:
        time.sleep(SETTLE_SECONDS)
        found, before = installation.fetch(query), found
    return found[0][0], found[0][1]


GROUPS = (
    Group(
        "publish",
        [Figure("publish", "publishChanges, 100 a call, one api process", "changes/s", 4_000, 8_000)],
        _publishing,
    ),
    Group(
        "callback",
        [Figure("callback", "requestCallback with one matching webhook, 32 in flight", "× { __typename }", 0.25, 0.5)],
        _callbacks,
    ),
)
