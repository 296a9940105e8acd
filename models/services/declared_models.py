"""Declaring a model whose objects live in another program: its schema, and what must not break when it changes."""

from collections.abc import Iterable, Iterator
from typing import Any

import orjson
from tortoise.backends.base.client import BaseDBAsyncClient
from tortoise.transactions import in_transaction

from ringback.models.database import advisory_locks, clock
from ringback.models.database.sql import lock
from ringback.models.declared_model import DeclaredModel
from ringback.models.errors import ProblemCode
from ringback.models.ids import Prefix, encode, is_id
from ringback.models.json_schema.findings import Finding, quote_path
from ringback.models.json_schema.schema import MAX_ITEM_BYTES, CheckBudget, JsonSchema, check_schema
from ringback.models.json_schema.subschemas import SchemaFault
from ringback.models.services import webhook_models
from ringback.models.services.validation import Problems
from ringback.models.templates.validation import unknown_paths
from ringback.models.tracking.cooperative import LoopYielder
from ringback.models.tracking.registry import NAME, registry
from ringback.models.webhook import Webhook

MAX_LABEL, MAX_DESCRIPTION = 200, 10_000
#: `webhookModels` lists all of them.
MAX_MODELS = 1_000
#: Ids of single objects: a model's id is its name.
_NAMES_OF_OTHERS = {"site_settings"}
_TOO_LARGE = ProblemCode.TOO_LARGE
#: Fields that are named, of a webhook that would lose them.
_MAX_NAMED = 10


async def declare_model(
    name: str, label: str, description: str | None, json_schema: Any, sample: Any, *, force: bool = False
) -> DeclaredModel:
    """Declare a model, or declare it anew; raises InputRejected.

    A schema that takes away fields which webhooks use is refused, unless it is forced. Declarations come one after
    another: each sees what the one before it left.
    """
    problems = Problems()
    _check_name(problems, name)
    label = problems.line("label", label, longest=MAX_LABEL) or ""
    description = problems.text("description", description, longest=MAX_DESCRIPTION) or ""
    schema = _schema(problems, json_schema, sample)
    problems.refuse_if_any()
    assert schema is not None, "refused otherwise"
    values = {
        "label": label,
        "description": description,
        "json_schema": orjson.dumps(json_schema).decode(),
        "sample": sample,
    }
    async with in_transaction() as db:
        await advisory_locks.hold(db, [webhook_models.lock_name(name)])
        row = await lock(db, DeclaredModel, name=name)
        now = await clock.now(db)
        if row is None:
            if await DeclaredModel.all().using_db(db).count() >= MAX_MODELS:
                problems.add("name", f"There are {MAX_MODELS:,} declared models, as many as are allowed", _TOO_LARGE)
            problems.refuse_if_any()
            return await DeclaredModel.create(name=name, **values, created_at=now, updated_at=now, using_db=db)
        if all(getattr(row, column) == value for column, value in values.items()):
            return row
        if not force:
            await _check_webhooks(problems, db, row, schema)
            problems.refuse_if_any()
        row.update_from_dict({**values, "updated_at": now})
        await row.save(using_db=db)
        return row


def add_findings(problems: Problems, field: str, findings: Iterable[Finding]) -> None:
    """Note what is wrong within a JSON value."""
    for finding in findings:
        code = ProblemCode.TOO_LARGE if finding.is_limit else ProblemCode.INVALID
        problems.add(field, finding.message, code, within=quote_path(finding.path))


def _check_name(problems: Problems, name: str) -> None:
    if not NAME.fullmatch(name):
        problems.add("name", "must be written like spare_part: at most 100 of a-z, 0-9 and _, a letter first")
    elif is_id(name) or name in _NAMES_OF_OTHERS:
        problems.add("name", "must not be the id of something else: choose another name")
    elif registry.get(name) is not None:
        message = f"The model {name} is tracked in code and cannot be declared: choose another name"
        problems.add("name", message, ProblemCode.CONFLICT)


def _schema(problems: Problems, json_schema: Any, sample: Any) -> JsonSchema | None:
    """The schema with which the sample was checked; None when one of them was refused."""
    try:
        schema = check_schema(json_schema)
    except SchemaFault as fault:
        add_findings(problems, "json_schema", fault.findings)
        return None
    size = len(orjson.dumps(sample))
    if size > MAX_ITEM_BYTES:
        problems.add("sample", f"has {size:,} bytes; {MAX_ITEM_BYTES:,} are allowed", _TOO_LARGE)
    else:
        add_findings(problems, "sample", schema.check(sample, size, CheckBudget()))
    return schema


async def _check_webhooks(problems: Problems, db: BaseDBAsyncClient, row: DeclaredModel, schema: JsonSchema) -> None:
    """Note each webhook that uses what the new schema takes away."""
    had, has = webhook_models.paths_of(row.schema.fields), webhook_models.paths_of(schema.fields)
    if set(had) <= set(has):
        return
    stretch = LoopYielder()
    for webhook in await Webhook.filter(model=row.name, deleted_at=None).using_db(db).order_by("id"):
        lost: set[str] = set()
        for source, is_condition in _templates(webhook):
            await stretch.pause()
            unknown = unknown_paths(source, fields=has, is_condition=is_condition)
            lost |= unknown - unknown_paths(source, fields=had, is_condition=is_condition) if unknown else set()
        if lost:
            named = ", ".join(sorted(lost)[:_MAX_NAMED])
            more = f" and {len(lost) - _MAX_NAMED} more" if len(lost) > _MAX_NAMED else ""
            who = f'The webhook "{webhook.name}"' if webhook.name else "The webhook"
            message = (
                f"{who} ({encode(Prefix.WEBHOOK, webhook.id)}) uses {named}{more}, which this schema does not have: "
                "change the webhook first, or declare with force: true"
            )
            problems.add("json_schema", message, ProblemCode.CONFLICT)


def _templates(webhook: Webhook) -> Iterator[tuple[str, bool]]:
    """The texts that a webhook renders, and whether each is a condition."""
    yield webhook.url, False
    yield from ((value, False) for _, value in webhook.headers)
    if not webhook.send_json:
        yield webhook.body_template, False
    if webhook.condition is not None:
        yield webhook.condition, True
