"""The outbox: just before a transaction's COMMIT, what it changed becomes changes and events.

They are written by the same transaction as the objects themselves, so a rolled-back change leaves nothing and a
committed one always leaves its events (rule 2 of the design). The wake-up follows the real COMMIT.
"""

import datetime as dt
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import UUID

import orjson
from tortoise.backends.base.client import BaseDBAsyncClient
from tortoise.models import Model

from ringback.models.database import clock
from ringback.models.database.bulk_write import NewRows, insert_together
from ringback.models.database.notifications import Topic, notifier
from ringback.models.database.sql import array_parameter, as_uuid, fetch_rows, is_postgres
from ringback.models.database.unit_of_work import require_unit
from ringback.models.delivery_log import LogEntry
from ringback.models.enums import Action, EventStatus, LogKind
from ringback.models.errors import TemplateError
from ringback.models.event import Change, Event
from ringback.models.ids import new_key
from ringback.models.templates.scope import event_facts, scope
from ringback.models.templates.template import compile_condition
from ringback.models.timestamps import format_timestamp
from ringback.models.tracking import snapshot
from ringback.models.tracking.cooperative import LoopYielder
from ringback.models.tracking.registry import tracking_of
from ringback.models.tracking.snapshot import Stored


async def record(db: BaseDBAsyncClient, before: Mapping[tuple[type[Model], Any], Stored | None]) -> None:
    """Compare each touched object with what is stored now and write a change, with its events, where it differs.

    With no webhook that matches, nothing is written.
    """
    watching = await find_watching_webhooks(db, {tracking_of(model).name for model, _ in before})
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
    await save_changes(db, [change for change in happened if change is not None], watching)


async def insert_with_events(
    db: BaseDBAsyncClient, model: type[Model], names: tuple[str, ...], rows: Sequence[Sequence[Any]]
) -> None:
    """Insert new objects, with their changes and events, in a transaction that does nothing else to them.

    A row holds the values of all columns, the key first, as the database would give them back: nothing is read again.
    The model must have no children.
    """
    objects = NewRows(model, names, rows)
    watching = await find_watching_webhooks(db, {tracking_of(model).name})
    if not watching:
        await insert_together(db, objects)
        return
    at = await clock.now(db)
    changes = []
    for row in rows:
        stored = snapshot.of_row(model, dict(zip(names, row, strict=True)))
        change = _change(model, row[0], None, stored, at)
        assert change is not None, "it did not exist"
        changes.append(change)
    await save_changes(db, changes, watching, objects)


@dataclass(frozen=True, slots=True)
class WatchingWebhook:
    """What the outbox must know of an active webhook."""

    id: UUID
    actions: frozenset[str]
    condition: str | None
    retry_delays: Sequence[int]


async def find_watching_webhooks(db: BaseDBAsyncClient, models: Collection[str]) -> dict[str, list[WatchingWebhook]]:
    """The active webhooks of these models, by model; they stay active until the transaction ends."""
    found: dict[str, list[WatchingWebhook]] = {}
    statement = _WATCHING if is_postgres(db) else _WATCHING_ON_SQLITE
    for model, key, actions, condition, retry_delays in await fetch_rows(db, statement, array_parameter(db, models)):
        watching = WatchingWebhook(
            as_uuid(key), frozenset(orjson.loads(actions)), condition, orjson.loads(retry_delays)
        )
        found.setdefault(model, []).append(watching)
    return found


_WATCHING_ON_SQLITE = """
SELECT model, id, actions, condition, retry_delays FROM ringback_webhook
WHERE model IN (SELECT value FROM json_each($1)) AND is_active AND deleted_at IS NULL ORDER BY id
"""
#: The lock is what an event's foreign key takes anyway, only sooner: whoever deactivates a webhook waits for the events
#: that are being written, and finds them all; who comes later finds it deactivated.
_WATCHING = """
SELECT model, id, actions, condition, retry_delays FROM ringback_webhook
WHERE model = ANY($1::text[]) AND is_active AND deleted_at IS NULL ORDER BY id FOR KEY SHARE
"""


class NewChange(NamedTuple):
    """A row of `Change`: a tuple costs a hundredth of an ORM object, and there are many."""

    id: UUID
    model: str
    action: Action
    object_id: str
    item: Any
    changed_fields: Sequence[str]
    created_at: dt.datetime


class NewEvent(NamedTuple):
    """A row of `Event` as it is recorded."""

    id: UUID
    webhook_id: UUID
    change_id: UUID | None
    model: str
    action: Action
    object_id: str | None
    max_attempts: int
    next_attempt_at: dt.datetime
    created_at: dt.datetime
    is_test: bool = False
    test_item: Mapping[str, Any] | None = None
    status: EventStatus = EventStatus.PENDING
    attempt_count: int = 0
    attempts_before_round: int = 0
    abandoned_in_a_row: int = 0


class _Logged(NamedTuple):
    """A row of `LogEntry`."""

    at: dt.datetime
    kind: LogKind
    message: str
    webhook_id: UUID
    event_id: UUID
    model: str


async def save_changes(
    db: BaseDBAsyncClient,
    changes: Sequence[NewChange],
    watching: Mapping[str, list[WatchingWebhook]],
    *objects: NewRows,
) -> list[list[NewEvent]]:
    """Write the changes that fire a webhook, with their events; returns the events of each change, in order.

    `objects` are written first, whether a webhook fires or not.
    """
    stretch = LoopYielder()
    fired = []
    for change in changes:
        await stretch.pause()
        fired.append(_fire(change, watching.get(change.model, [])))
    telling = [change for change, events in zip(changes, fired, strict=True) if events]
    if telling:
        await save_events(db, telling, [event for events in fired for event in events], *objects)
    else:
        await insert_together(db, *objects)
    return fired


async def save_events(
    db: BaseDBAsyncClient, changes: Sequence[NewChange], events: Sequence[NewEvent], *objects: NewRows
) -> None:
    """Write events with their changes and log rows, after `objects`; the wake-up follows the commit."""
    await insert_together(
        db,
        *objects,
        NewRows(Change, NewChange._fields, changes),
        NewRows(Event, NewEvent._fields, events),
        NewRows(LogEntry, _Logged._fields, [_recorded(event) for event in events]),
    )
    due = [event.next_attempt_at for event in events]
    recorded_at = events[0].created_at
    unit = require_unit(db)
    unit.on_commit(lambda: notifier.notify_if_due_soon(due, recorded_at))
    unit.on_commit(lambda: notifier.notify(Topic.LOGGED))


def new_event(webhook: WatchingWebhook, change: NewChange) -> NewEvent:
    """The event of a webhook for a change: its first attempt is due after the first delay of the schedule."""
    due = change.created_at + dt.timedelta(seconds=webhook.retry_delays[0])
    return NewEvent(
        id=new_key(),
        webhook_id=webhook.id,
        change_id=change.id,
        model=change.model,
        action=change.action,
        object_id=change.object_id,
        max_attempts=len(webhook.retry_delays),
        next_attempt_at=due,
        created_at=change.created_at,
    )


def _change(
    model: type[Model], key: Any, before: Stored | None, after: Stored | None, at: dt.datetime
) -> NewChange | None:
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
    return NewChange(
        id=new_key(),
        model=tracking.name,
        action=action,
        object_id=tracking.object_id(key),
        item=snapshot.complete(model, tracking, shown.item),
        changed_fields=changed,
        created_at=at,
    )


def _fire(change: NewChange, webhooks: list[WatchingWebhook]) -> list[NewEvent]:
    events = []
    for webhook in webhooks:
        if change.action in webhook.actions:
            event = new_event(webhook, change)
            if webhook.condition is None or _holds(webhook.condition, change, event):
                events.append(event)
    return events


def _holds(condition: str, change: NewChange, event: NewEvent) -> bool:
    """Whether a condition lets a change through.

    One that fails to evaluate lets it through, so that nothing is lost: the delivery meets the same error and puts it
    on record as RENDER_FAILED.
    """
    try:
        return compile_condition(condition).holds(scope(change.item, event_facts(event, change)))
    except TemplateError:
        return True


def _recorded(event: NewEvent) -> _Logged:
    subject = f"{event.model}.{event.action.lower()}"
    about = f"{subject} of {event.object_id}" if event.object_id else subject
    message = (
        f"{'Test event' if event.is_test else 'Event'} recorded for {about}; "
        f"first attempt due at {format_timestamp(event.next_attempt_at)}"
    )
    return _Logged(event.created_at, LogKind.EVENT_RECORDED, message, event.webhook_id, event.id, event.model)
