"""The outbox: just before a transaction's COMMIT, what it changed becomes changes and events.

They are written by the same transaction as the objects themselves, so a rolled-back change leaves nothing and a
committed one always leaves its events (rule 2 of the design). The wake-up follows the real COMMIT.
"""

import datetime as dt
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from tortoise.backends.base.client import BaseDBAsyncClient
from tortoise.models import Model

from ringback.models import clock, log, snapshot
from ringback.models.bulk import insert
from ringback.models.errors import TemplateError
from ringback.models.event import Change, Event
from ringback.models.ids import Prefix, encode
from ringback.models.log import LogEntry, LogKind
from ringback.models.registry import tracking_of
from ringback.models.snapshot import Stored, timestamp
from ringback.models.statements import execute, on_postgres
from ringback.models.stretch import Stretch
from ringback.models.templates import EventFacts, compile_condition, scope
from ringback.models.transactions import UnitOfWork
from ringback.models.wakeups import Topic, wakeups
from ringback.models.webhook import Action, Webhook


async def record(
    db: BaseDBAsyncClient, unit: UnitOfWork, before: Mapping[tuple[type[Model], Any], Stored | None]
) -> None:
    """Compare each touched object with what is stored now and write a change, with its events, where it differs.

    With no webhook that matches, nothing is written.
    """
    watching = await watching_webhooks(db, {tracking_of(model).name for model, _ in before})
    if not watching:
        return
    keys: dict[type[Model], list[Any]] = {}
    for model, key in before:
        if tracking_of(model).name in watching:
            keys.setdefault(model, []).append(key)
    after = {model: await snapshot.read(db, model, of_model) for model, of_model in keys.items()}
    at = await clock.now(db)
    happened = (
        _change(model, key, stored, after[model].get(key), at)
        for (model, key), stored in before.items()
        if model in after
    )
    await save_changes(db, unit, [change for change in happened if change is not None], watching)


async def watching_webhooks(db: BaseDBAsyncClient, models: Collection[str]) -> dict[str, list[Webhook]]:
    """The active webhooks of these models, by model; they stay active until the transaction ends."""
    if on_postgres(db):
        # What an event's foreign key takes anyway, only sooner: whoever deactivates a webhook waits for the events that
        # are being written, and finds them all; who comes later finds it deactivated.
        await execute(db, _KEEP_ACTIVE, list(models))
    found: dict[str, list[Webhook]] = {}
    for webhook in await Webhook.filter(model__in=models, is_active=True, deleted_at=None).using_db(db).order_by("id"):
        found.setdefault(webhook.model, []).append(webhook)
    return found


_KEEP_ACTIVE = """
SELECT FROM ringback_webhook WHERE model = ANY($1::text[]) AND is_active AND deleted_at IS NULL
ORDER BY id FOR KEY SHARE
"""


async def save_changes(
    db: BaseDBAsyncClient, unit: UnitOfWork, changes: Sequence[Change], watching: Mapping[str, list[Webhook]]
) -> list[list[Event]]:
    """Write the changes that fire a webhook, with their events; returns the events of each change, in order."""
    stretch = Stretch()
    fired = []
    for change in changes:
        await stretch.pause()
        fired.append(_fire(change, watching.get(change.model, [])))
    telling = [change for change, events in zip(changes, fired, strict=True) if events]
    if telling:
        await insert(db, telling)
        await save_events(db, unit, [event for events in fired for event in events])
    return fired


async def save_events(db: BaseDBAsyncClient, unit: UnitOfWork, events: list[Event]) -> None:
    """Write new events with their log rows; the wake-up follows the commit."""
    await insert(db, events)
    await insert(db, [_recorded(event) for event in events])
    unit.on_commit(lambda: wakeups.notify(Topic.DUE))
    unit.on_commit(lambda: wakeups.notify(Topic.LOGGED))


def new_event(webhook: Webhook, change: Change) -> Event:
    """The event of a webhook for a change: its first attempt is due after the first delay of the schedule."""
    due = change.created_at + dt.timedelta(seconds=webhook.retry_delays[0])
    return Event(
        webhook_id=webhook.id,
        change_id=change.id,
        model=change.model,
        action=change.action,
        object_id=change.object_id,
        max_attempts=len(webhook.retry_delays),
        next_attempt_at=due,
        due_at=due,
        created_at=change.created_at,
    )


def _change(
    model: type[Model], key: Any, before: Stored | None, after: Stored | None, at: dt.datetime
) -> Change | None:
    """What happened to one object between two stored states; None when nothing did."""
    tracking = tracking_of(model)
    changed: list[str] = []
    shown = after or before
    if shown is None:
        return None
    if before is None:
        action = Action.CREATED
    elif after is None:
        action = Action.DELETED
    else:
        different = snapshot.differences(before, after)
        if different is None:
            return None
        action, changed = Action.UPDATED, different
    return Change(
        model=tracking.name,
        action=action,
        object_id=tracking.object_id(key),
        item=snapshot.complete(model, shown),
        changed_fields=changed,
        created_at=at,
    )


def _fire(change: Change, webhooks: list[Webhook]) -> list[Event]:
    events = []
    for webhook in webhooks:
        if webhook.matches(change.action):
            event = new_event(webhook, change)
            if webhook.condition is None or _holds(webhook.condition, change, event):
                events.append(event)
    return events


def _holds(condition: str, change: Change, event: Event) -> bool:
    """Whether a condition lets a change through.

    One that fails to evaluate lets it through, so that nothing is lost: the delivery meets the same error and puts it
    on record as RENDER_FAILED.
    """
    try:
        return compile_condition(condition).holds(scope(change.item, facts(event, change)))
    except TemplateError:
        return True


def facts(event: Event, change: Change | None) -> EventFacts:
    """What templates know about an event as `event`."""
    return EventFacts(
        id=encode(Prefix.EVENT, event.id),
        model=event.model,
        action=event.action.lower(),
        changed_fields=tuple(change.changed_fields) if change else (),
        created_at=timestamp(event.created_at),
    )


def _recorded(event: Event) -> LogEntry:
    subject = f"{event.model}.{event.action.lower()}"
    about = f"{subject} of {event.object_id}" if event.object_id else subject
    due = timestamp(event.next_attempt_at) if event.next_attempt_at else "once"
    return log.entry(
        LogKind.EVENT_RECORDED,
        f"{'Test event' if event.is_test else 'Event'} recorded for {about}; first attempt due at {due}",
        at=event.created_at,
        webhook_id=event.webhook_id,
        event_id=event.id,
        model=event.model,
    )
