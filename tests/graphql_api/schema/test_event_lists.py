"""The pages of a list have the rows that meet a filter, newest first, for any combination of conditions.

Random filters, with lists of no, one or several values that are frequent, rare or null, are compared with a plain
filter over all rows.
"""

import datetime as dt
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from ringback.models.database import keyset
from ringback.models.enums import Action, EventStatus, OutcomeName
from ringback.models.event import Attempt, Change, Event
from ringback.models.ids import Prefix, encode, new_key, new_key_at
from tests.support import builders
from tests.support.api import Api
from tests.support.inserting import insert

pytestmark = [pytest.mark.every_database, pytest.mark.measures_cpu]


@pytest.fixture(params=["in one look", "in many looks"], autouse=True)
def looks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let pages end early, where enough rows were looked at; the list goes on from there."""
    if request.param == "in many looks":
        monkeypatch.setattr(keyset, "SCAN_STEP_ROWS", (5, 20))
        monkeypatch.setattr(keyset, "MAX_COUNTED_ROWS", 10)


EVENTS, FILTERS = 400, 150
START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
Draw = Callable[[random.Random], Any]
#: By how much the time in a key differs from the row's own: the keys of a batch are made when it is written.
SKEW = dt.timedelta(seconds=300)

STATUSES = [*["SUCCEEDED"] * 40, *["FAILED"] * 5, *["RETRYING"] * 5, "CANCELLED"]
OUTCOMES = [*["DELIVERED"] * 40, *["REJECTED"] * 10, *["TIMED_OUT"] * 3, "BAD_RESPONSE", "UNREACHABLE"]
#: The statuses that come with an outcome; a success policy may accept more than 200, and none refuses that.
CODES: dict[str, list[int | None]] = {
    "DELIVERED": [200, 200, 200, 204], "REJECTED": [404, 410, 500, 500, 500], "TIMED_OUT": [None, 200, 500],
    "BAD_RESPONSE": [None, 200],
}  # fmt: skip


def moment(minutes: float) -> dt.datetime:
    return START + dt.timedelta(minutes=minutes)


async def fill(lot: random.Random) -> tuple[list[Event], list[Attempt]]:
    """Write events of three webhooks, one of them busy, with up to three attempts each."""
    webhooks = [await builders.webhook(model=model) for model in ("lead", "lead", "customer_order")]
    change = Change(model="lead", action="CREATED", object_id="1", item={}, created_at=START)
    events, attempts = [], []
    for minutes in range(EVENTS):
        at, webhook = moment(minutes), lot.choice([*[webhooks[0]] * 8, *webhooks])
        event = Event(
            id=new_key_at(at + SKEW * lot.uniform(-1, 1)), webhook_id=webhook.id, change_id=change.id,
            model=webhook.model, action=lot.choice([*["UPDATED"] * 9, "CREATED", "DELETED"]),
            object_id=lot.choice([None, *(str(number) for number in range(20))]), is_test=lot.random() < 0.03,
            status=lot.choice(STATUSES), attempt_count=1, max_attempts=3, created_at=at,
        )  # fmt: skip
        events.append(event)
        for number in range(1, lot.choice([0, 1, 1, 1, 1, 3]) + 1):
            started_at, outcome = at + dt.timedelta(minutes=4 * (number - 1)), lot.choice(OUTCOMES)
            attempt = Attempt(
                id=new_key_at(started_at + SKEW * lot.uniform(-1, 1)), event_id=event.id, webhook_id=webhook.id,
                number=number, started_at=started_at, duration_ms=1, outcome=outcome,
                status_code=lot.choice(CODES.get(outcome, [None])),
            )  # fmt: skip
            attempts.append(attempt)
    for written in ([change], events, attempts):
        await insert(Event._meta.db, written)
    return events, attempts


def some(values: Sequence[str]) -> Draw:
    """Draw no, one or several values."""
    return lambda lot: lot.choices(values, k=lot.choice([0, 1, 1, 1, 2, 2, 3, 8]))


def draw_filter(lot: random.Random, conditions: Mapping[str, Draw], after: str, before: str) -> dict[str, Any]:
    """Draw a filter with some of the conditions; a time range is never empty."""
    drawn = {name: draw(lot) for name, draw in conditions.items() if lot.random() < 0.35}
    begin, end = sorted(lot.sample(range(-10, EVENTS + 10), 2))
    if lot.random() < 0.4:
        drawn[after] = moment(begin).isoformat()
    if lot.random() < 0.4:
        zone = dt.timezone(dt.timedelta(hours=lot.randint(-11, 11)))
        drawn[before] = moment(end).astimezone(zone).isoformat()
    return drawn


def matches(filter: Mapping[str, Any], row: Mapping[str, Any], after: str, before: str) -> bool:
    """Return whether a row meets all conditions of a filter. Its keys are the names of the conditions."""
    for name, expected in filter.items():
        if name == after:
            is_met = row["at"] > dt.datetime.fromisoformat(expected)
        elif name == before:
            is_met = row["at"] < dt.datetime.fromisoformat(expected)
        else:
            is_met = row[name] in expected if isinstance(expected, list) else row[name] == expected
        if not is_met:
            return False
    return True


async def list_ids(api: Api, what: str, filter: Mapping[str, Any], first: int) -> list[str]:
    """Return the ids of all pages of at most `first` nodes."""
    document = f"""
        query($first: Int!, $after: String, $filter: {what.capitalize()[:-1]}Filter) {{
          {what}(first: $first, after: $after, filter: $filter) {{
            nodes {{ id }} pageInfo {{ hasNextPage endCursor }}
          }}
        }}
    """
    ids: list[str] = []
    after = None
    while True:
        page = await api.ask(document, first=first, after=after, filter=filter)
        assert len(page["nodes"]) <= first
        ids += [node["id"] for node in page["nodes"]]
        if not page["pageInfo"]["hasNextPage"]:
            return ids
        assert page["pageInfo"]["endCursor"] not in (None, after)
        after = page["pageInfo"]["endCursor"]


async def compare(
    api: Api, lot: random.Random, what: str, all_rows: list[dict[str, Any]], conditions: Mapping[str, Draw]
) -> None:
    after, before = ("createdAfter", "createdBefore") if what == "events" else ("startedAfter", "startedBefore")
    all_rows.sort(key=lambda row: row["key"], reverse=True)
    sizes = []
    for _ in range(FILTERS):
        drawn = draw_filter(lot, conditions, after, before)
        expected = [row["id"] for row in all_rows if matches(drawn, row, after, before)]
        assert await list_ids(api, what, drawn, lot.choice([7, 40, 100])) == expected, drawn
        sizes.append(len(expected))
    assert min(sizes) == 0 and max(sizes) > 40, "empty and long lists were compared"


async def test_random_filters_of_events(api: Api) -> None:
    lot = random.Random(1)
    events, _ = await fill(lot)
    described_rows: list[dict[str, Any]] = [
        {
            "key": row.id, "id": encode(Prefix.EVENT, row.id), "at": row.created_at, "isTest": row.is_test,
            "webhookIds": encode(Prefix.WEBHOOK, row.webhook_id), "models": row.model, "actions": row.action,
            "statuses": row.status, "objectId": row.object_id,
        }
        for row in events
    ]  # fmt: skip
    conditions: dict[str, Draw] = {
        "webhookIds": some([*sorted({row["webhookIds"] for row in described_rows}), encode(Prefix.WEBHOOK, new_key())]),
        "models": some(["lead", "customer_order", "unknown"]),
        "actions": some(list(Action)),
        "statuses": some(list(EventStatus)),
        "objectId": lambda lot: lot.choice(["unknown", *(str(number) for number in range(20))]),
        "isTest": lambda lot: lot.random() < 0.5,
    }
    await compare(api, lot, "events", described_rows, conditions)


async def test_random_filters_of_attempts(api: Api) -> None:
    lot = random.Random(2)
    _, attempts = await fill(lot)
    described_rows: list[dict[str, Any]] = [
        {
            "key": row.id, "id": encode(Prefix.ATTEMPT, row.id), "at": row.started_at,
            "webhookIds": encode(Prefix.WEBHOOK, row.webhook_id), "eventIds": encode(Prefix.EVENT, row.event_id),
            "outcomes": row.outcome, "statusCode": row.status_code,
        }
        for row in attempts
    ]  # fmt: skip
    conditions: dict[str, Draw] = {
        "webhookIds": some([*sorted({row["webhookIds"] for row in described_rows}), encode(Prefix.WEBHOOK, new_key())]),
        "eventIds": some([*sorted({row["eventIds"] for row in described_rows}), encode(Prefix.EVENT, new_key())]),
        "outcomes": some(list(OutcomeName)),
        "statusCode": lambda lot: lot.choice([200, 204, 404, 410, 500, 503]),
    }
    await compare(api, lot, "attempts", described_rows, conditions)
