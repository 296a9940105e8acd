"""Publish changes of declared models: many in one call, all or none, each recorded at most once.

Published changes are recorded as all others are: by `models.tracking.outbox`, and only if a webhook matches. Several
changes of one object stay several changes.
"""

import datetime as dt
import hashlib
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple
from uuid import UUID

import orjson
from tortoise.backends.base.client import BaseDBAsyncClient
from tortoise.transactions import in_transaction

from ringback.models.database import advisory_locks, clock
from ringback.models.database.sql import choose_database
from ringback.models.declared_model import MAX_KEY_CHARS, DeclaredModel, IdempotencyKey
from ringback.models.errors import InputRejected, Problem, ProblemCode
from ringback.models.ids import new_key
from ringback.models.services import idempotency, webhook_models
from ringback.models.services.change_checks import ChangeChecker, Publication, find_id_fault
from ringback.models.services.decimal_fields import DecimalFieldsCache
from ringback.models.services.idempotency import ModelKey
from ringback.models.services.item_checks import ItemChecks
from ringback.models.services.validation import Problems, api_name
from ringback.models.templates.decimal_fields import DecimalFields
from ringback.models.tracking import conditions, outbox
from ringback.models.tracking.cooperative import LoopYielder
from ringback.models.tracking.outbox import NewChange, Verdicts, WatchingWebhook
from ringback.models.tracking.registry import NAME_PATTERN

MAX_CHANGES = 500
#: Events that several changes of one call may create, conditions aside. On SQLite all other writers wait until they are
#: written: 20,000 took 0.7 s and 11 MB.
MAX_EVENTS = 100_000
#: Changes of a call whose conditions are evaluated before the transaction. For fewer, reading the webhooks twice takes
#: longer, unless their conditions are slow.
EARLY_CHANGES = 20

_decimal_fields = DecimalFieldsCache()


@dataclass(frozen=True, slots=True)
class Published:
    """The result of a publication. `duplicate` means that it had been recorded before under its idempotency key."""

    object_id: str
    event_ids: tuple[UUID, ...]
    duplicate: bool = False


@dataclass(slots=True)
class _Recording:
    """A change recorded by this call, or before under the same key. New ones get their events when written."""

    digest: str
    event_ids: tuple[UUID, ...] = ()


class _NewRecording(NamedTuple):
    change: Publication
    recording: _Recording
    #: Verdicts of conditions on the change that are known before the transaction.
    early: Verdicts


class _Result(NamedTuple):
    recording: _Recording
    duplicate: bool


class _ChecksPending(Exception):
    """Items must be checked before the transaction can record their changes."""


async def publish_changes(changes: Sequence[Publication]) -> list[Published]:
    """Record changes of declared models in one transaction. Return the results in the order of the changes.

    The number of statements does not depend on the number of changes. Raises InputRejected.
    """
    if len(changes) > MAX_CHANGES:
        message = f"changes has {len(changes):,} entries. Send at most {MAX_CHANGES:,} in one call."
        raise InputRejected(Problem(message, "changes", ProblemCode.TOO_LARGE))
    early = await _evaluate_conditions(changes)
    checks = ItemChecks()
    while True:
        try:
            return await _check_and_record(changes, checks, early)
        except _ChecksPending:
            await checks.run()


async def _check_and_record(
    changes: Sequence[Publication], checks: ItemChecks, early: "_EarlyVerdicts"
) -> list[Published]:
    """Record changes. Raises _ChecksPending, and records nothing, if items must be checked in their thread first.

    That happens once, and again only if a model has been redeclared in between.
    """
    problems = Problems()
    yielder = LoopYielder()
    new: list[_NewRecording] = []
    results: list[_Result] = []
    async with in_transaction() as db:
        await _lock_models(db, changes)
        now = await clock.now(db)
        checker = await _load_checker(db, problems, changes, checks)
        recordings = await _find_recordings(db, changes, now)
        for index, change in enumerate(changes):
            await yielder.pause()
            item_json = orjson.dumps(change.item, option=orjson.OPT_SORT_KEYS)
            key = _model_key(change)
            earlier = recordings.get(key) if key is not None else None
            if earlier is None:
                recording = _Recording(digest="")
                if key is not None:
                    recording.digest = _digest(change, item_json)
                    recordings[key] = recording
                checker.check(index, change, len(item_json))
                verdicts = early.find(index, checker.models.get(change.model))
                new.append(_NewRecording(change, recording, verdicts))
                results.append(_Result(recording, duplicate=False))
            else:
                if earlier.digest not in (_digest(change, item_json), _digest_in_given_order(change, item_json)):
                    _add_reused_key(problems, f"changes[{index}].idempotency_key", change)
                results.append(_Result(earlier, duplicate=True))
        if checks.has_pending:
            raise _ChecksPending
        problems.raise_if_any()
        decimals = {name: _decimal_fields.of_row(model) for name, model in checker.models.items()}
        await _record(db, new, decimals, now)
    return [
        Published(object_id=change.object_id, event_ids=result.recording.event_ids, duplicate=result.duplicate)
        for change, result in zip(changes, results, strict=True)
    ]


@dataclass(frozen=True, slots=True)
class _EarlyVerdicts:
    """Verdicts of each change of a call, and the schemas of the models with which they were found."""

    verdicts: Sequence[Verdicts] = ()
    schemas: Mapping[str, str] = field(default_factory=dict)

    def find(self, index: int, model: DeclaredModel | None) -> Verdicts:
        """Return the verdicts of a change, or none if its model has been declared anew."""
        if not self.verdicts or model is None or self.schemas.get(model.name) != model.json_schema:
            return {}
        return self.verdicts[index]


async def _evaluate_conditions(changes: Sequence[Publication]) -> _EarlyVerdicts:
    """Evaluate conditions before the transaction, if that may take long: on SQLite it would keep all others waiting."""
    names = {change.model for change in changes}
    if len(changes) < EARLY_CHANGES and not conditions.are_slow(names):
        return _EarlyVerdicts()
    db = choose_database(DeclaredModel)
    models = await _load_models(db, names)
    now = await clock.now(db)
    watching = await outbox.find_watching_webhooks(db, models.keys(), lock=False)
    if _count_events(changes, watching) > MAX_EVENTS:  # refused later, unless many are duplicates
        return _EarlyVerdicts()
    rows = [_new_change(change, now) for change in changes]
    decimals = {name: _decimal_fields.of_row(model) for name, model in models.items()}
    return _EarlyVerdicts(
        verdicts=await outbox.evaluate_early(db, rows, decimals),
        schemas={name: model.json_schema for name, model in models.items()},
    )


async def _lock_models(db: BaseDBAsyncClient, changes: Sequence[Publication]) -> None:
    """Lock the models against redeclaration, and their idempotency keys against other calls."""
    valid = [change for change in changes if NAME_PATTERN.fullmatch(change.model)]
    await advisory_locks.acquire(db, (webhook_models.lock_name(change.model) for change in valid), shared=True)
    await advisory_locks.acquire(db, (idempotency.lock_name(change.model) for change in valid if _model_key(change)))


async def _find_recordings(
    db: BaseDBAsyncClient, changes: Sequence[Publication], now: dt.datetime
) -> dict[ModelKey, _Recording]:
    """Return what was recorded before under the keys of these changes."""
    model_keys = {key for change in changes if (key := _model_key(change)) is not None}
    rows = await idempotency.find_used_keys(db, model_keys, now)
    return {key: _Recording(row.digest, tuple(map(UUID, row.event_ids))) for key, row in rows.items()}


async def _record(
    db: BaseDBAsyncClient, new: Sequence[_NewRecording], decimals: Mapping[str, DecimalFields], now: dt.datetime
) -> None:
    """Write the changes with their events and idempotency keys, and set the events of the recordings.

    Raises InputRejected if there are several changes with too many events.
    """
    if not new:
        return
    watching = await outbox.find_watching_webhooks(db, {change.model for change, _, _ in new})
    event_count = _count_events([change for change, _, _ in new], watching)
    if event_count > MAX_EVENTS and len(new) > 1:
        raise _build_too_many_events_error(len(new), event_count)
    rows = [_new_change(change, now) for change, _, _ in new]
    early = [verdicts for _, _, verdicts in new]
    events_by_change = await outbox.save_changes(db, rows, watching, decimals, early=early)
    for (_, recording, _), events in zip(new, events_by_change, strict=True):
        recording.event_ids = tuple(event.id for event in events)
    keys = [
        IdempotencyKey(
            model=change.model,
            key=change.idempotency_key,
            digest=recording.digest,
            event_ids=[str(event_id) for event_id in recording.event_ids],
            created_at=now,
        )
        for change, recording, _ in new
        if change.idempotency_key is not None
    ]
    if keys:
        await IdempotencyKey.bulk_create(keys, using_db=db)


def _count_events(changes: Sequence[Publication], watching: Mapping[str, Sequence[WatchingWebhook]]) -> int:
    """Return the number of events that the changes create if all conditions are true."""
    event_count = 0
    for (model, action), change_count in Counter((change.model, change.action) for change in changes).items():
        webhooks = [webhook for webhook in watching.get(model, []) if action in webhook.actions]
        event_count += change_count * len(webhooks)
    return event_count


def _build_too_many_events_error(change_count: int, event_count: int) -> InputRejected:
    share = max(1, change_count * MAX_EVENTS // event_count)
    message = (
        f"changes may create {event_count:,} events, more than {MAX_EVENTS:,}, a fixed limit for one call. "
        f"Send about {share:,} changes in one call."
    )
    return InputRejected(Problem(message, "changes", ProblemCode.TOO_LARGE))


def _new_change(change: Publication, now: dt.datetime) -> NewChange:
    return NewChange(
        id=new_key(),
        model=change.model,
        action=change.action,
        object_id=change.object_id,
        item=change.item,
        changed_fields=list(dict.fromkeys(change.changed_fields or ())),
        created_at=now,
    )


def _digest(change: Publication, item_json: bytes) -> str:
    """Return the SHA-256 of everything in a change except its key and the order of the changed fields."""
    return _hash(change, sorted(set(change.changed_fields or ())), item_json)


def _digest_in_given_order(change: Publication, item_json: bytes) -> str:
    """Return the digest that version 0.1.0 stored, so that a change can be sent again after an upgrade."""
    return _hash(change, change.changed_fields or (), item_json)


def _hash(change: Publication, changed_fields: Sequence[str], item_json: bytes) -> str:
    others = (change.model, change.action.value, change.object_id, *changed_fields)
    return hashlib.sha256(ascii(others).encode() + item_json).hexdigest()


def _model_key(change: Publication) -> ModelKey | None:
    """Return the key to look up. None for a change without one, or with one that the checks will refuse."""
    key = change.idempotency_key
    if key is None or not NAME_PATTERN.fullmatch(change.model):
        return None
    if not key or len(key) > MAX_KEY_CHARS or find_id_fault(key):
        return None
    return ModelKey(change.model, key)


def _add_reused_key(problems: Problems, field: str, change: Publication) -> None:
    message = f"{api_name(field)} was used before for another change of {change.model}. Use a new key for each change."
    problems.add(field, message, ProblemCode.CONFLICT)


async def _load_checker(
    db: BaseDBAsyncClient, problems: Problems, changes: Sequence[Publication], checks: ItemChecks
) -> ChangeChecker:
    """Load the declared models that the changes name."""
    names = {change.model for change in changes}
    models = await _load_models(db, names)
    suggestions: list[str] = []
    if not models.keys() >= names:
        suggestions = await webhook_models.find_declared_names(db)
    return ChangeChecker(problems, models, suggestions, checks)


async def _load_models(db: BaseDBAsyncClient, names: Collection[str]) -> dict[str, DeclaredModel]:
    """Return the declared models of these names, by name."""
    valid_names = {name for name in names if NAME_PATTERN.fullmatch(name)}
    if not valid_names:
        return {}
    rows = DeclaredModel.filter(name__in=valid_names).using_db(db)
    return {row.name: row for row in await rows.only("name", "json_schema", "template_fields", "updated_at")}
