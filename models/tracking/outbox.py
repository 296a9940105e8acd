"""The outbox: just before the COMMIT of a transaction, its writes become changes and events.

They are written by the same transaction as the objects, so a rollback leaves nothing and a commit always leaves the
events (rule 2 in docs/architecture.md). Workers and readers of the delivery log are notified after the COMMIT.

`touched_rows` registers a hook that calls `record_changes` just before the COMMIT (models.database.unit_of_work).
"""

import datetime as dt
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any, NamedTuple, TypeAlias
from uuid import UUID

from tortoise.backends.base.client import BaseDBAsyncClient
from tortoise.models import Model

from ringback.models.database import clock
from ringback.models.database.bulk_write import NewRows, insert_together
from ringback.models.database.notifications import Topic, notifier
from ringback.models.database.row_decoding import build_row_decoder
from ringback.models.database.sql import array_parameter, choose_database, fetch_rows, is_postgres
from ringback.models.database.unit_of_work import require_unit
from ringback.models.delivery_log import LogEntry
from ringback.models.enums import Action, EventStatus, LogKind
from ringback.models.event import Change, Event
from ringback.models.ids import new_key
from ringback.models.templates.decimal_fields import DecimalFields
from ringback.models.timestamps import format_timestamp
from ringback.models.tracking import conditions, model_fields, snapshot
from ringback.models.tracking.conditions import Check, Verdict
from ringback.models.tracking.cooperative import LoopYielder
from ringback.models.tracking.registry import get_tracking
from ringback.models.tracking.snapshot import Stored
from ringback.models.webhook import Webhook


@dataclass(slots=True)
class WatchingWebhook:
    """The columns of an active webhook that decide about its events."""

    model: str
    id: UUID
    actions: Sequence[str]
    condition: str | None
    #: In seconds; the first is the delay from the change to the first attempt.
    retry_delays: Sequence[int]


class NewChange(NamedTuple):
    """A row of `Change`. Building a named tuple takes a hundredth of the time that building an ORM instance takes."""

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
    condition_pending: bool = False


class NewLogEntry(NamedTuple):
    """A row of `LogEntry`."""

    at: dt.datetime
    kind: LogKind
    message: str
    webhook_id: UUID
    event_id: UUID
    model: str


#: The verdicts of conditions on one change, by the text of the condition.
Verdicts: TypeAlias = Mapping[str, Verdict]


async def record_changes(db: BaseDBAsyncClient, before: Mapping[tuple[type[Model], Any], Stored | None]) -> None:
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
    db: BaseDBAsyncClient,
    model: type[Model],
    names: tuple[str, ...],
    rows: Sequence[Sequence[Any]],
    early: Sequence[Verdicts] = (),
) -> None:
    """Insert new objects, with their changes and events, in a transaction that does nothing else to them.

    Each row holds the values of all columns, the key first, as the database would return them: nothing is read back.
    The model must have no children. `early` is what `evaluate_inserts_early` returned for the rows.
    """
    objects = NewRows(model, names, rows)
    watching = await find_watching_webhooks(db, {get_tracking(model).name})
    if not watching:
        await insert_together(db, objects)
        return
    changes = _make_insert_changes(model, names, rows, await clock.now(db))
    decimals = {get_tracking(model).name: model_fields.decimal_fields(model)}
    await save_changes(db, changes, watching, decimals, objects, early=early)


async def evaluate_inserts_early(
    model: type[Model], names: tuple[str, ...], rows: Sequence[Sequence[Any]]
) -> list[Verdicts]:
    """Do what `evaluate_early` does for rows that `insert_with_events` will insert, if the conditions are slow."""
    name = get_tracking(model).name
    if not conditions.are_slow([name]):
        return []
    changes = _make_insert_changes(model, names, rows, await clock.now(choose_database(model)))
    return await evaluate_early(choose_database(model), changes, {name: model_fields.decimal_fields(model)})


async def evaluate_early(
    db: BaseDBAsyncClient, changes: Sequence[NewChange], decimals: Mapping[str, DecimalFields]
) -> list[Verdicts]:
    """Evaluate the conditions for changes that a transaction will record, before it holds any lock.

    Returns the verdicts of each change, in order. Verdicts that depend on the id or time of an event are left out.
    Models without an entry in `decimals` are ignored, and so are items that are not objects.
    """
    watching = await find_watching_webhooks(db, decimals.keys(), lock=False)
    yielder = LoopYielder()
    checks: list[Check] = []
    positions: list[int] = []
    for position, change in enumerate(changes):
        await yielder.pause()
        if not isinstance(change.item, dict):
            continue
        webhook_by_condition: dict[str, WatchingWebhook] = {}
        for webhook in watching.get(change.model, []):
            if webhook.condition is not None and change.action in webhook.actions:
                webhook_by_condition[webhook.condition] = webhook
        for condition, webhook in webhook_by_condition.items():
            event = _make_event(webhook, change)
            checks.append(Check(condition, change.item, change, event, decimals[change.model], is_early=True))
            positions.append(position)
    verdicts: list[dict[str, Verdict]] = [{} for _ in changes]
    for position, check, verdict in zip(positions, checks, await conditions.evaluate(checks), strict=True):
        if verdict is not Verdict.UNKNOWN:
            verdicts[position][check.condition] = verdict
    return list(verdicts)


async def find_watching_webhooks(
    db: BaseDBAsyncClient, models: Collection[str], *, lock: bool = True
) -> dict[str, list[WatchingWebhook]]:
    """Return the active webhooks of these models, by model.

    With `lock`, they stay active until the transaction ends.
    """
    statement = _WATCHING_WEBHOOKS_ON_SQLITE
    if is_postgres(db):
        statement = _LOCK_WATCHING_WEBHOOKS if lock else _WATCHING_WEBHOOKS
    decode = build_row_decoder(Webhook, WatchingWebhook, postgres=is_postgres(db))
    watching: dict[str, list[WatchingWebhook]] = {}
    for row in await fetch_rows(db, statement, array_parameter(db, models)):
        webhook = decode(row)
        watching.setdefault(webhook.model, []).append(webhook)
    return watching


async def save_changes(
    db: BaseDBAsyncClient,
    changes: Sequence[NewChange],
    watching: Mapping[str, list[WatchingWebhook]],
    decimals: Mapping[str, DecimalFields],
    *objects: NewRows,
    early: Sequence[Verdicts] = (),
) -> list[list[NewEvent]]:
    """Write the changes that match a webhook, with their events. Return the events of each change, in order.

    `decimals` are the decimal fields of the models. `objects` are written first, whether a webhook matches or not.
    `early` are the verdicts that `evaluate_early` returned for the changes, if it was called.
    """
    events_by_change = await _make_events(changes, watching, decimals, early)
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


def _make_insert_changes(
    model: type[Model], names: tuple[str, ...], rows: Sequence[Sequence[Any]], at: dt.datetime
) -> list[NewChange]:
    changes = []
    for row in rows:
        stored = snapshot.decode_row(model, dict(zip(names, row, strict=True)))
        change = _make_change(model, row[0], before=None, after=stored, at=at)
        assert change is not None, "the object did not exist before"
        changes.append(change)
    return changes


async def _make_events(
    changes: Sequence[NewChange],
    watching: Mapping[str, list[WatchingWebhook]],
    decimals: Mapping[str, DecimalFields],
    early: Sequence[Verdicts],
) -> list[list[NewEvent]]:
    """Return the events of each change whose condition is not false, in the order of the webhooks."""
    yielder = LoopYielder()
    candidates_by_change = []
    for position, change in enumerate(changes):
        await yielder.pause()
        known_verdicts = early[position] if early else {}
        webhooks = [webhook for webhook in watching.get(change.model, []) if change.action in webhook.actions]
        candidates_by_change.append([_make_candidate(webhook, change, known_verdicts) for webhook in webhooks])
    undecided = [candidate for candidate in chain.from_iterable(candidates_by_change) if candidate.verdict is None]
    checks = [_make_check(candidate, decimals) for candidate in undecided]
    for candidate, verdict in zip(undecided, await conditions.evaluate(checks), strict=True):
        candidate.verdict = verdict
    return [_select_events(candidates) for candidates in candidates_by_change]


@dataclass(slots=True)
class _Candidate:
    """An event to record unless the condition of its webhook is false."""

    event: NewEvent
    change: NewChange
    condition: str | None
    verdict: Verdict | None


def _make_candidate(webhook: WatchingWebhook, change: NewChange, known_verdicts: Verdicts) -> _Candidate:
    verdict: Verdict | None = Verdict.PASSED
    if webhook.condition is not None:
        verdict = known_verdicts.get(webhook.condition)
    return _Candidate(_make_event(webhook, change), change, webhook.condition, verdict)


def _make_check(candidate: _Candidate, decimals: Mapping[str, DecimalFields]) -> Check:
    assert candidate.condition is not None, "an event without a condition passes"
    change = candidate.change
    return Check(candidate.condition, change.item, change, candidate.event, decimals[change.model])


def _select_events(candidates: Sequence[_Candidate]) -> list[NewEvent]:
    """Return the events to record. Those whose condition was not evaluated are marked, so that their attempts do it."""
    events = []
    for candidate in candidates:
        if candidate.verdict is Verdict.PENDING:
            events.append(candidate.event._replace(condition_pending=True))
        elif candidate.verdict is not Verdict.REFUSED:
            events.append(candidate.event)
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


def _make_log_entry(event: NewEvent) -> NewLogEntry:
    title = "Test event" if event.is_test else "Event"
    subject = f"{event.model}.{event.action.lower()}"
    if event.object_id:
        subject = f"{subject} of {event.object_id}"
    due = format_timestamp(event.next_attempt_at)
    message = f"{title} recorded for {subject}; first attempt due at {due}"
    if event.condition_pending:
        message += "; attempts evaluate the condition, because the conditions of this call took too long"
    return NewLogEntry(
        at=event.created_at,
        kind=LogKind.EVENT_RECORDED,
        message=message,
        webhook_id=event.webhook_id,
        event_id=event.id,
        model=event.model,
    )


#: Active webhooks of some models, by the index on (model, is_active). The lock is the one that an event's foreign key
#: takes anyway, only sooner: a transaction that deactivates a webhook waits for the events that are being written, and
#: then cancels them all; a transaction that writes events after it finds the webhook inactive.
_LOCK_WATCHING_WEBHOOKS = """
SELECT model, id, actions, condition, retry_delays FROM ringback_webhook
WHERE model = ANY($1::text[]) AND is_active AND deleted_at IS NULL ORDER BY id FOR KEY SHARE
"""
#: The same without the lock.
_WATCHING_WEBHOOKS = """
SELECT model, id, actions, condition, retry_delays FROM ringback_webhook
WHERE model = ANY($1::text[]) AND is_active AND deleted_at IS NULL ORDER BY id
"""
_WATCHING_WEBHOOKS_ON_SQLITE = """
SELECT model, id, actions, condition, retry_delays FROM ringback_webhook
WHERE model IN (SELECT value FROM json_each($1)) AND is_active AND deleted_at IS NULL ORDER BY id
"""
