"""Rows that tests begin with: webhooks, events and claims, as the program itself would have written them."""

import datetime as dt
from dataclasses import fields
from typing import Any

from ringback.jobs.outcomes import Delivered, HttpResponse, Outcome, Rejected
from ringback.jobs.result import Result
from ringback.models.database import clock
from ringback.models.delivery_log import LogEntry
from ringback.models.enums import Action, OutcomeName
from ringback.models.event import Attempt, Change, Event
from ringback.models.queue.claims import ClaimedEvent
from ringback.models.queue.workers import WorkerLease, register_worker
from ringback.models.security.secret_box import SecretBox
from ringback.models.security.signing import new_signing_secret
from ringback.models.webhook import Webhook
from ringback.models.worker import Worker

BOX = SecretBox("a key of the tests' own")
OK = Delivered(HttpResponse(200, (("Content-Type", "text/plain"), ("Set-Cookie", "a=b")), b"thanks \x00\xff", False))
#: How long workers of the tests live without a renewal, in seconds.
LEASE_SECONDS = 60.0
REFUSED = Rejected(HttpResponse(500), "The endpoint answered 500; only 200 counts as success.")


async def later(seconds: float = 0.0) -> dt.datetime:
    """Return the moment so many seconds from now, by the database's clock."""
    return await clock.now() + dt.timedelta(seconds=seconds)


async def webhook(**fields: Any) -> Webhook:
    now = await clock.now()
    given = {"model": "lead", "actions": ["CREATED"], "url": "https://hooks.example/", **fields}
    return await Webhook.create(signing_secret=BOX.seal(new_signing_secret()), created_at=now, updated_at=now, **given)


async def event(of: Webhook, *, due_in: float = 0.0, **fields: Any) -> Event:
    """Make an event of a change, whose next attempt is due `due_in` seconds from now."""
    now = await clock.now()
    change = await Change.create(
        model="lead", action=Action.CREATED, object_id="lead_1", item={"id": "lead_1", "name": "Ада"}, created_at=now
    )
    due = now + dt.timedelta(seconds=due_in)
    given = {"max_attempts": len(of.retry_delays), "next_attempt_at": due, **fields}
    return await Event.create(
        webhook_id=of.id, change_id=change.id, model="lead", action=Action.CREATED, created_at=now, **given
    )


async def claim(*events: Event, lease: WorkerLease | None = None) -> WorkerLease:
    """Have a worker claim these events, whenever they are due; without a lease, a new worker does."""
    lease = lease or await register_worker(LEASE_SECONDS)
    ids = [event.id for event in events]
    assert await Event.filter(id__in=ids).update(worker_id=lease.worker_id, claimed_at=await clock.now()) == len(ids)
    return lease


async def die(lease: WorkerLease) -> None:
    """Have a worker declared dead."""
    assert await Worker.filter(id=lease.worker_id).delete() == 1


def as_claimed(of: Event) -> ClaimedEvent:
    """Return the event in the form that claiming it returns."""
    return ClaimedEvent(*(getattr(of, field.name) for field in fields(ClaimedEvent)))


def result(
    of: Event, lease: WorkerLease, outcome: Outcome = REFUSED, *, ended_at: dt.datetime, took_ms: int = 20
) -> Result:
    """Return the result of the event's next attempt, which the worker made. `of` is the event as it was claimed."""
    started_at = ended_at - dt.timedelta(milliseconds=took_ms)
    return Result(
        event_id=of.id,
        worker_id=lease.worker_id,
        attempt_count=of.attempt_count,
        outcome=outcome,
        started_at=started_at,
        ended_at=ended_at,
        duration_ms=took_ms,
        event=as_claimed(of),
    )


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
