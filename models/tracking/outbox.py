"""The outbox: just before the COMMIT of a transaction, its writes become changes and events.

They are written by the same transaction as the objects, so a rollback leaves nothing and a commit always leaves the
events (rule 2 in docs/architecture.md). Workers and readers of the delivery log are notified after the COMMIT.

`touched_rows` registers a hook that calls `record` just before the COMMIT (models.database.unit_of_work).
"""

import datetime as dt
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
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
from ringback.models.templates.decimal_fields import DecimalFields
from ringback.models.templates.scope import build_event_facts, build_scope
from ringback.models.templates.template import compile_condition
from ringback.models.timestamps import format_timestamp
from ringback.models.tracking import model_fields, snapshot
from ringback.models.tracking.cooperative import LoopYielder
from ringback.models.tracking.registry import get_tracking
from ringback.models.tracking.snapshot import Stored


@dataclass(frozen=True, slots=True)
class WatchingWebhook:
    """The columns of an active webhook that decide about its events."""

    id: UUID
    actions: frozenset[str]
    condition: str | None
    #: In seconds; the first is the delay from the change to the first attempt.
    retry_delays: Sequence[int]


class NewChange(NamedTuple):
    """A row of `Change`. A named tuple takes a hundredth of the time of an ORM instance, and there are many."""

    id: UUID
    model: str
    action: Action
    object_id: str
    item: Any
    changed_fields: Sequence[str]
    created_at: dt.datetime


class NewEvent(NamedTuple):
    """A row of `Event`, before any attempt."""

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


class NewLogEntry(NamedTuple):
    """A row of `LogEntry`."""

    at: dt.datetime
    kind: LogKind
    message: str
    webhook_id: UUID
    event_id: UUID
    model: str


async def record(db: BaseDBAsyncClient, before: Mapping[tuple[type[Model], Any], Stored | None]) -> None:
    """Compare touched objects with their stored state now, and write a change with its events for each that differs.

    `before` holds the states before the transaction, by model and key; None for objects that did not exist. Nothing is
    written if no webhook matches.
    """
    watching = await find_watching_webhooks(db, {get_tracking(model).name for model, _ in before})
    if not watching:
        return
    keys_by_model: dict[type[Model], list[Any]] = {}
    for model, key in before:
        if get_tracking(model).name in watching:
            keys_by_model.setdefault(model, []).append(key)
    after = {model: await snapshot.read(db, model, keys) for model, keys in keys_by_model.items()}
    now = await clock.now(db)
    changes = []
    for (model, key), stored_before in before.items():
        if model in after:
            change = _make_change(model, key, before=stored_before, after=after[model].get(key), at=now)
            if change is not None:
                changes.append(change)
    decimals = {get_tracking(model).name: model_fields.decimal_fields(model) for model in keys_by_model}
    await save_changes(db, changes, watching, decimals)


async def insert_with_events(
    db: BaseDBAsyncClient, model: type[Model], names: tuple[str, ...], rows: Sequence[Sequence[Any]]
) -> None:
    """Insert new objects, with their changes and events, in a transaction that does nothing else to them.

    Each row holds the values of all columns, the key first, as the database would return them: nothing is read back.
    The model must have no children.
    """
    objects = NewRows(model, names, rows)
    watching = await find_watching_webhooks(db, {get_tracking(model).name})
    if not watching:
        await insert_together(db, objects)
        return
    now = await clock.now(db)
    changes = []
    for row in rows:
        stored = snapshot.decode_row(model, dict(zip(names, row, strict=True)))
        change = _make_change(model, row[0], before=None, after=stored, at=now)
        assert change is not None, "the object did not exist before"
        changes.append(change)
    decimals = {get_tracking(model).name: model_fields.decimal_fields(model)}
    await save_changes(db, changes, watching, decimals, objects)


async def find_watching_webhooks(db: BaseDBAsyncClient, models: Collection[str]) -> dict[str, list[WatchingWebhook]]:
    """Return the active webhooks of these models, by model. They stay active until the transaction ends."""
    watching: dict[str, list[WatchingWebhook]] = {}
    statement = _WATCHING_WEBHOOKS if is_postgres(db) else _WATCHING_WEBHOOKS_ON_SQLITE
    for model, key, actions, condition, retry_delays in await fetch_rows(db, statement, array_parameter(db, models)):
        webhook = WatchingWebhook(
            id=as_uuid(key),
            actions=frozenset(orjson.loads(actions)),
            condition=condition,
            retry_delays=orjson.loads(retry_delays),
        )
        watching.setdefault(model, []).append(webhook)
    return watching


async def save_changes(
    db: BaseDBAsyncClient,
    changes: Sequence[NewChange],
    watching: Mapping[str, list[WatchingWebhook]],
    decimals: Mapping[str, DecimalFields],
    *objects: NewRows,
) -> list[list[NewEvent]]:
    """Write the changes that match a webhook, with their events. Return the events of each change, in order.

    `decimals` are the decimal fields of the models. `objects` are written first, whether a webhook matches or not.
    """
    yielder = LoopYielder()
    events_by_change = []
    for change in changes:
        await yielder.pause()
        events_by_change.append(_make_events(change, watching.get(change.model, []), decimals[change.model]))
    matching = [change for change, events in zip(changes, events_by_change, strict=True) if events]
    if matching:
        await save_events(db, matching, list(chain.from_iterable(events_by_change)), *objects)
    else:
        await insert_together(db, *objects)
    return events_by_change


async def save_events(
    db: BaseDBAsyncClient, changes: Sequence[NewChange], events: Sequence[NewEvent], *objects: NewRows
) -> None:
    """Write events with their changes and log entries, after `objects`. Notifications follow the COMMIT."""
    await insert_together(
        db,
        *objects,
        NewRows(Change, NewChange._fields, changes),
        NewRows(Event, NewEvent._fields, events),
        NewRows(LogEntry, NewLogEntry._fields, [_make_log_entry(event) for event in events]),
    )
    due = [event.next_attempt_at for event in events]
    unit = require_unit(db)
    unit.on_commit(partial(notifier.notify_if_due_soon, due, events[0].created_at))
    unit.on_commit(partial(notifier.notify, Topic.LOGGED))


def _make_change(
    model: type[Model], key: Any, *, before: Stored | None, after: Stored | None, at: dt.datetime
) -> NewChange | None:
    """Return the change of one object between two stored states, or None if nothing changed."""
    last_state = after or before
    if last_state is None:
        return None
    changed_fields: list[str] = []
    if before is None:
        action = Action.CREATED
    elif after is None:
        action = Action.DELETED
    else:
        action = Action.UPDATED
        different = snapshot.find_differences(before, after)
        if different is None:
            return None
        changed_fields = different
    tracking = get_tracking(model)
    return NewChange(
        id=new_key(),
        model=tracking.name,
        action=action,
        object_id=tracking.encode_id(key),
        item=snapshot.complete(model, tracking, last_state.item),
        changed_fields=changed_fields,
        created_at=at,
    )


def _make_events(change: NewChange, webhooks: list[WatchingWebhook], decimals: DecimalFields) -> list[NewEvent]:
    events = []
    for webhook in webhooks:
        if change.action in webhook.actions:
            event = _make_event(webhook, change)
            if webhook.condition is None or _passes(webhook.condition, change, event, decimals):
                events.append(event)
    return events


def _make_event(webhook: WatchingWebhook, change: NewChange) -> NewEvent:
    return NewEvent(
        id=new_key(),
        webhook_id=webhook.id,
        change_id=change.id,
        model=change.model,
        action=change.action,
        object_id=change.object_id,
        max_attempts=len(webhook.retry_delays),
        next_attempt_at=change.created_at + dt.timedelta(seconds=webhook.retry_delays[0]),
        created_at=change.created_at,
    )


def _passes(condition: str, change: NewChange, event: NewEvent, decimals: DecimalFields) -> bool:
    """Return whether a change passes a webhook's condition.

    A condition that cannot be evaluated passes, so that no event is lost: its attempt fails with the same error and is
    stored as RENDER_FAILED.
    """
    try:
        scope = build_scope(change.item, build_event_facts(event, change))
        return compile_condition(condition).holds(scope, decimals)
    except TemplateError:
        return True


def _make_log_entry(event: NewEvent) -> NewLogEntry:
    title = "Test event" if event.is_test else "Event"
    subject = f"{event.model}.{event.action.lower()}"
    if event.object_id:
        subject = f"{subject} of {event.object_id}"
    due = format_timestamp(event.next_attempt_at)
    return NewLogEntry(
        at=event.created_at,
        kind=LogKind.EVENT_RECORDED,
        message=f"{title} recorded for {subject}; first attempt due at {due}",
        webhook_id=event.webhook_id,
        event_id=event.id,
        model=event.model,
    )


#: Active webhooks of some models, by the index on (model, is_active). The lock is the one that an event's foreign key
#: takes anyway, only sooner: a transaction that deactivates a webhook waits for the events that are being written, and
#: then cancels them all; a transaction that writes events after it finds the webhook inactive.
_WATCHING_WEBHOOKS = """
SELECT model, id, actions, condition, retry_delays FROM ringback_webhook
WHERE model = ANY($1::text[]) AND is_active AND deleted_at IS NULL ORDER BY id FOR KEY SHARE
"""
_WATCHING_WEBHOOKS_ON_SQLITE = """
SELECT model, id, actions, condition, retry_delays FROM ringback_webhook
WHERE model IN (SELECT value FROM json_each($1)) AND is_active AND deleted_at IS NULL ORDER BY id
"""
