"""Changes of declared models, as other programs publish them: many at once, all or nothing, each at most once.

A published change goes the way of every other one: the webhooks that watch its model are judged by
`models.tracking.outbox`, and with none that matches nothing is recorded. Several changes of one object are several
changes: each was published.
"""

import datetime as dt
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self, TypeAlias
from uuid import UUID

import orjson
from tortoise.backends.base.client import BaseDBAsyncClient
from tortoise.transactions import in_transaction

from ringback.models.database import advisory_locks, clock
from ringback.models.declared_model import MAX_KEY, DeclaredModel, IdempotencyKey
from ringback.models.enums import Action
from ringback.models.errors import InputRejected, Problem, ProblemCode
from ringback.models.ids import new_key
from ringback.models.json_schema.schema import MAX_ITEM_BYTES, CheckBudget, JsonSchema
from ringback.models.services import idempotency, webhook_models
from ringback.models.services.declared_models import add_findings
from ringback.models.services.validation import Problems, did_you_mean
from ringback.models.tracking import outbox
from ringback.models.tracking.cooperative import LoopYielder
from ringback.models.tracking.outbox import NewChange
from ringback.models.tracking.registry import NAME, registry

MAX_CHANGES = 500
MAX_OBJECT_ID = 255
#: Names in changedFields that are looked at, and how much of one is told.
MAX_CHANGED_FIELDS = 1_000
_MAX_NAME_TOLD = 100


@dataclass(frozen=True, slots=True)
class Publication:
    """A change as a program publishes it; `item` is any JSON value as it was sent."""

    model: str
    action: Action
    object_id: str
    item: Any
    changed_fields: Sequence[str] | None = None
    idempotency_key: str | None = None


@dataclass(frozen=True, slots=True)
class Published:
    """What became of a publication; `duplicate` tells that it was recorded before, under the same key."""

    object_id: str
    event_ids: tuple[UUID, ...]
    duplicate: bool = False


@dataclass(slots=True)
class _Recording:
    """What is recorded for one publication, now or before; its events are known once they are written."""

    digest: str
    event_ids: tuple[UUID, ...] = ()


#: A model and a key.
_Pair: TypeAlias = tuple[str, str]


async def publish_changes(changes: Sequence[Publication]) -> list[Published]:
    """Record changes of declared models in one transaction; answers in their order. Raises InputRejected.

    It takes a constant number of statements, however many changes there are.
    """
    if len(changes) > MAX_CHANGES:
        message = f"has {len(changes):,} entries; {MAX_CHANGES:,} are allowed in one call"
        raise InputRejected(Problem(message, "changes", ProblemCode.TOO_LARGE))
    problems = Problems()
    async with in_transaction() as db:
        await _lock(db, changes)
        now = await clock.now(db)
        checks = await _Checks.of(db, problems, changes)
        known = await idempotency.find_used_keys(db, {pair for change in changes if (pair := _pair(change))}, now)
        under_key = {pair: _Recording(row.digest, tuple(map(UUID, row.event_ids))) for pair, row in known.items()}
        new: list[tuple[Publication, _Recording]] = []
        answers: list[tuple[_Recording, bool]] = []
        for index, change in enumerate(changes):
            await checks.stretch.pause()
            json = orjson.dumps(change.item, option=orjson.OPT_SORT_KEYS)
            pair = _pair(change)
            recording = _Recording(_digest(change, json) if pair else "")
            before = under_key.setdefault(pair, recording) if pair else recording
            if before is recording:
                checks.check(f"changes[{index}]", change, len(json))
                new.append((change, recording))
            elif before.digest != recording.digest:
                message = "must not be used again for another change of this model: take a key of its own"
                problems.add(f"changes[{index}].idempotency_key", message, ProblemCode.CONFLICT)
            answers.append((before, before is not recording))
        problems.refuse_if_any()
        await _record(db, new, now)
    return [
        Published(change.object_id, recording.event_ids, duplicate)
        for change, (recording, duplicate) in zip(changes, answers, strict=True)
    ]


async def _lock(db: BaseDBAsyncClient, changes: Sequence[Publication]) -> None:
    """Let no model be declared anew meanwhile, and nobody else look for keys of these models."""
    known = [change for change in changes if NAME.fullmatch(change.model)]
    await advisory_locks.hold(db, (webhook_models.lock_name(change.model) for change in known), shared=True)
    await advisory_locks.hold(db, (idempotency.lock_name(change.model) for change in known if _pair(change)))


async def _record(db: BaseDBAsyncClient, new: Sequence[tuple[Publication, _Recording]], now: dt.datetime) -> None:
    if not new:
        return
    watching = await outbox.find_watching_webhooks(db, {change.model for change, _ in new})
    fired = await outbox.save_changes(db, [_row(change, now) for change, _ in new], watching)
    for (_, recording), events in zip(new, fired, strict=True):
        recording.event_ids = tuple(event.id for event in events)
    keys = [
        IdempotencyKey(
            model=change.model,
            key=change.idempotency_key,
            digest=recording.digest,
            event_ids=[str(key) for key in recording.event_ids],
            created_at=now,
        )
        for change, recording in new
        if change.idempotency_key is not None
    ]
    if keys:
        await IdempotencyKey.bulk_create(keys, using_db=db)


def _row(change: Publication, now: dt.datetime) -> NewChange:
    return NewChange(
        id=new_key(),
        model=change.model,
        action=change.action,
        object_id=change.object_id,
        item=change.item,
        changed_fields=list(dict.fromkeys(change.changed_fields or ())),
        created_at=now,
    )


def _digest(change: Publication, json: bytes) -> str:
    """What tells a change from another one: everything but its key."""
    rest = (change.model, change.action.value, change.object_id, *(change.changed_fields or ()))
    return hashlib.sha256(ascii(rest).encode() + json).hexdigest()


def _pair(change: Publication) -> _Pair | None:
    """What the change is looked up by; None for one without a key, and for what cannot be stored anyway."""
    key = change.idempotency_key
    if key is None or _fault_of_id(key, MAX_KEY) or not NAME.fullmatch(change.model):
        return None
    return change.model, key


def _fault_of_id(text: str, longest: int) -> tuple[str, ProblemCode] | None:
    """What is wrong with an id of another program's making; it is kept to the letter."""
    if not text:
        return "must not be empty", ProblemCode.INVALID
    if len(text) > longest:
        return f"has {len(text):,} characters; {longest:,} are allowed", ProblemCode.TOO_LARGE
    if not text.isprintable() or text != text.strip():
        message = "must be one line of Unicode text without control characters, and no blanks at its ends"
        return message, ProblemCode.INVALID
    return None


class _Checks:
    """What is wrong with the changes of one call."""

    def __init__(self, problems: Problems, models: Mapping[str, DeclaredModel], names: Sequence[str]) -> None:
        self._problems = problems
        self._models = models
        self._names = names
        self._patience = CheckBudget()
        self.stretch = LoopYielder()

    @classmethod
    async def of(cls, db: BaseDBAsyncClient, problems: Problems, changes: Sequence[Publication]) -> Self:
        """Checks that know the models of these changes."""
        wanted = {change.model for change in changes if NAME.fullmatch(change.model)}
        models = {row.name: row for row in await DeclaredModel.filter(name__in=wanted).using_db(db)} if wanted else {}
        # Only to say which name was meant.
        names = (
            []
            if models.keys() >= {change.model for change in changes}
            else await webhook_models.find_declared_names(db)
        )
        return cls(problems, models, names)

    def check(self, field: str, change: Publication, size: int) -> None:
        """Note what is wrong with one change; `size` is that of its item's JSON, in bytes."""
        if self._problems.are_many:
            return
        ids = [("object_id", change.object_id, MAX_OBJECT_ID)]
        if change.idempotency_key is not None:
            ids.append(("idempotency_key", change.idempotency_key, MAX_KEY))
        for name, text, longest in ids:
            if fault := _fault_of_id(text, longest):
                self._problems.add(f"{field}.{name}", *fault)
        if change.changed_fields and change.action is not Action.UPDATED:
            self._problems.add(f"{field}.changed_fields", "may be given only for an UPDATED object")
        model = self._model(f"{field}.model", change.model)
        if size > MAX_ITEM_BYTES:
            message = f"has {size:,} bytes; {MAX_ITEM_BYTES:,} are allowed"
            self._problems.add(f"{field}.item", message, ProblemCode.TOO_LARGE)
        elif not isinstance(change.item, dict):
            self._problems.add(f"{field}.item", "must be a JSON object")
        elif model is not None:
            add_findings(self._problems, f"{field}.item", model.schema.check(change.item, size, self._patience))
            self._check_changed_fields(f"{field}.changed_fields", change, model.schema)

    def _model(self, field: str, name: str) -> DeclaredModel | None:
        if registry.get(name) is not None:
            message = f"The model {name} is tracked in code: its changes are recorded there, and cannot be published"
            self._problems.add(field, message, ProblemCode.CONFLICT)
            return None
        if name not in self._models:
            hint = did_you_mean(name, self._names)
            self._problems.add(field, f"There is no declared model {name!r:.100}{hint}", ProblemCode.NOT_FOUND)
        return self._models.get(name)

    def _check_changed_fields(self, field: str, change: Publication, schema: JsonSchema) -> None:
        names = change.changed_fields or ()
        if len(names) > MAX_CHANGED_FIELDS:
            message = f"has {len(names):,} entries; {MAX_CHANGED_FIELDS:,} are allowed"
            self._problems.add(field, message, ProblemCode.TOO_LARGE)
        for index, name in enumerate(names[:MAX_CHANGED_FIELDS]):
            if name in schema.names or name in change.item or schema.is_open:
                continue
            if self._problems.are_many:
                return
            hint = did_you_mean(name, schema.names)
            self._problems.add(f"{field}[{index}]", f"no field of {change.model}: {name!r:.{_MAX_NAME_TOLD}}{hint}")
