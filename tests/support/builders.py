"""Rows that tests begin with: webhooks, events and claims, as the program itself would have written them."""

import datetime as dt
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from ringback.jobs.outcomes import Answer, Delivered, Outcome, Rejected
from ringback.jobs.recorder import Result
from ringback.models import beginning, claims, clock
from ringback.models.beginning import Begun
from ringback.models.claims import Due
from ringback.models.event import Attempt, Change, Event
from ringback.models.log import LogEntry
from ringback.models.secrets import SecretBox
from ringback.models.signing import new_secret
from ringback.models.states import OutcomeName
from ringback.models.webhook import Action, Webhook

BOX = SecretBox("a key of the tests' own")
OK = Delivered(Answer(200, (("Content-Type", "text/plain"), ("Set-Cookie", "a=b")), b"thanks \x00\xff", False))
REFUSED = Rejected(Answer(500), "The endpoint answered 500; only 200 counts as success.")


async def later(seconds: float = 0.0) -> dt.datetime:
    """Return the moment so many seconds from now, by the database's clock."""
    return await clock.now() + dt.timedelta(seconds=seconds)


async def webhook(**fields: Any) -> Webhook:
    now = await clock.now()
    given = {"model": "lead", "actions": ["CREATED"], "url": "https://hooks.example/", **fields}
    return await Webhook.create(signing_secret=BOX.seal(new_secret()), created_at=now, updated_at=now, **given)


async def event(of: Webhook, *, due_in: float = 0.0, **fields: Any) -> Event:
    """Make an event of a change, whose next attempt is due `due_in` seconds from now."""
    now = await clock.now()
    change = await Change.create(
        model="lead", action=Action.CREATED, object_id="lead_1", item={"id": "lead_1", "name": "Ада"}, created_at=now
    )
    due = now + dt.timedelta(seconds=due_in)
    given = {"max_attempts": len(of.retry_delays), "next_attempt_at": due, "due_at": due, **fields}
    return await Event.create(
        webhook_id=of.id, change_id=change.id, model="lead", action=Action.CREATED, created_at=now, **given
    )


async def claimed(*events: Event, seconds: float = 45.0) -> UUID:
    """Claim the events as one batch; returns the lease."""
    batch = [Due(e.id, e.webhook_id, e.next_attempt_at or await clock.now()) for e in events]
    ((lease, taken),) = (await claims.claim([batch], await clock.now(), lease_seconds=seconds)).batches
    assert len(taken) == len(events)
    return lease


async def begun(*events: Event, seconds: float = 45.0) -> UUID:
    """Claim and begin the events as one batch; returns the lease."""
    lease = await claimed(*events, seconds=seconds)
    assert await begin(lease, [e.id for e in events]) == {e.id for e in events}
    return lease


async def begin(lease: UUID, event_ids: Sequence[UUID]) -> set[UUID]:
    """Begin events of a claim, whenever they are due; returns those that may be sent."""
    return {d.event.id for d in await beginning.begin(lease, event_ids)}


def as_begun(of: Event) -> Begun:
    """Return the event in the form that beginning it returns."""
    assert of.next_attempt_at is not None
    assert of.due_at is not None
    return Begun(
        id=of.id,
        webhook_id=of.webhook_id,
        model=of.model,
        action=of.action,
        is_test=of.is_test,
        test_item=of.test_item,
        status=of.status,
        attempt_count=of.attempt_count,
        attempts_before_round=of.attempts_before_round,
        abandoned_in_a_row=of.abandoned_in_a_row,
        max_attempts=of.max_attempts,
        next_attempt_at=of.next_attempt_at,
        due_at=of.due_at,
        created_at=of.created_at,
        finished_at=of.finished_at,
    )


def result(of: Event, lease: UUID, outcome: Outcome = REFUSED, *, ended_at: dt.datetime, took_ms: int = 20) -> Result:
    started_at = ended_at - dt.timedelta(milliseconds=took_ms)
    return Result(of.id, lease, outcome, started_at=started_at, ended_at=ended_at, duration_ms=took_ms)


async def stored(of: Event) -> Event:
    return await Event.get(id=of.id)


async def attempts(of: Event) -> list[Attempt]:
    return await Attempt.filter(event_id=of.id).order_by("number")


async def log_of(of: Event) -> list[str]:
    return [str(e.kind) for e in await LogEntry.filter(event_id=of.id).order_by("id")]


async def attempt(event: Event, number: int = 1) -> Attempt:
    return await Attempt.create(
        event_id=event.id, webhook_id=event.webhook_id, number=number, duration_ms=5,
        started_at=event.created_at + dt.timedelta(seconds=number), outcome=OutcomeName.DELIVERED, status_code=200,
        request={"method": "POST", "url": "https://hooks.example/", "headers": [["a", "b"]], "body": "x"},
        response={"headers": [], "body": "ok", "body_truncated": False},
    )  # fmt: skip
