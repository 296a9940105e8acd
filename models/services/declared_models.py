"""Declare models whose objects live in another program."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import orjson
from tortoise.backends.base.client import BaseDBAsyncClient
from tortoise.transactions import in_transaction

from ringback.models.database import advisory_locks, clock
from ringback.models.database.sql import lock_row
from ringback.models.declared_model import DeclaredModel, to_template_fields
from ringback.models.errors import ProblemCode
from ringback.models.ids import Prefix, encode, is_id
from ringback.models.json_schema.compiler import run_in_schema_thread
from ringback.models.json_schema.findings import Finding, quote_path
from ringback.models.json_schema.schema import MAX_ITEM_BYTES, CheckBudget, check_schema
from ringback.models.json_schema.subschemas import SchemaFault
from ringback.models.services import webhook_models
from ringback.models.services.validation import Problems, api_name
from ringback.models.services.webhook_spec import PlacedTemplate, list_templates
from ringback.models.templates.field_info import FieldInfo
from ringback.models.templates.validation import find_unknown_paths
from ringback.models.tracking.cooperative import LoopYielder
from ringback.models.tracking.registry import NAME_PATTERN, registry
from ringback.models.webhook import Webhook

MAX_LABEL_CHARS, MAX_DESCRIPTION_CHARS = 200, 10_000
#: Maximum number of declared models. `webhookModels` returns all of them in one response.
MAX_MODELS = 1_000
#: Ids of single objects, which are not TypeIDs. A model's id is its name, so the two must differ.
_RESERVED_NAMES = {"site_settings"}
#: Key of the queue in which declarations wait for the schema thread.
_DECLARATIONS = "declarations"
#: Maximum number of fields that the error for one webhook names.
_MAX_NAMED_PATHS = 10


class _Checked(NamedTuple):
    """The fields of a schema, and what is wrong with it and with the sample."""

    fields: tuple[FieldInfo, ...] = ()
    schema_findings: tuple[Finding, ...] = ()
    sample_findings: tuple[Finding, ...] = ()


async def declare_model(
    name: str, label: str, description: str | None, json_schema: Any, sample: Any, *, force: bool = False
) -> DeclaredModel:
    """Declare a model, or replace its declaration. Raises InputRejected.

    A schema that lacks fields which webhooks use is refused unless `force` is set. Declarations of one model run one
    after another.
    """
    problems = Problems()
    _check_name(problems, name)
    label = problems.check_line("label", label, max_chars=MAX_LABEL_CHARS) or ""
    description = problems.check_text("description", description, max_chars=MAX_DESCRIPTION_CHARS) or ""
    fields = await _check_schema(problems, json_schema, sample)
    problems.raise_if_any()
    values = {
        "label": label,
        "description": description,
        "json_schema": orjson.dumps(json_schema).decode(),
        "template_fields": to_template_fields(fields),
        "sample": sample,
    }
    async with in_transaction() as db:
        await advisory_locks.acquire(db, [webhook_models.lock_name(name)])
        row = await lock_row(db, DeclaredModel, name=name)
        now = await clock.now(db)
        if row is None:
            await _check_model_count(problems, db)
            problems.raise_if_any()
            return await DeclaredModel.create(name=name, **values, created_at=now, updated_at=now, using_db=db)
        if all(getattr(row, column) == value for column, value in values.items()):
            return row
        if not force:
            await _check_webhooks(problems, db, row, fields)
            problems.raise_if_any()
        row.update_from_dict({**values, "updated_at": now})
        await row.save(using_db=db)
        return row


def add_findings(problems: Problems, field: str, findings: Iterable[Finding]) -> None:
    """Add a problem for each finding in the JSON value of a field."""
    for finding in findings:
        code = ProblemCode.TOO_LARGE if finding.is_limit else ProblemCode.INVALID
        path = quote_path(finding.path)
        problems.add(field, f"{api_name(field)}{path} {finding.message}.", code, within=path)


def _check_name(problems: Problems, name: str) -> None:
    if not NAME_PATTERN.fullmatch(name):
        message = (
            f"name is {name!r:.120}. Enter at most 100 characters from a-z, 0-9 and _, starting with a letter, "
            "such as spare_part."
        )
        problems.add("name", message)
    elif is_id(name) or name in _RESERVED_NAMES:
        problems.add("name", f"name is {name}, which is an id of another object. Choose another name.")
    elif registry.get(name) is not None:
        message = f"The model {name} is tracked in code and cannot be declared. Choose another name."
        problems.add("name", message, ProblemCode.CONFLICT)


async def _check_schema(problems: Problems, json_schema: Any, sample: Any) -> tuple[FieldInfo, ...]:
    """Check a schema, and the sample against it. Return the schema's fields, () if it was refused."""
    size = len(orjson.dumps(sample))
    if size > MAX_ITEM_BYTES:
        problems.add_too_large("sample", size, "bytes", MAX_ITEM_BYTES)
    checked = await run_in_schema_thread(_DECLARATIONS, _compile_and_check, json_schema, sample, size)
    add_findings(problems, "json_schema", checked.schema_findings)
    add_findings(problems, "sample", checked.sample_findings)
    return checked.fields


def _compile_and_check(json_schema: Any, sample: Any, size: int) -> _Checked:
    try:
        schema = check_schema(json_schema)
    except SchemaFault as fault:
        return _Checked(schema_findings=fault.findings)
    sample_findings: list[Finding] = []
    if size <= MAX_ITEM_BYTES:
        sample_findings = schema.check(sample, size, CheckBudget())
    return _Checked(schema.fields, sample_findings=tuple(sample_findings))


async def _check_model_count(problems: Problems, db: BaseDBAsyncClient) -> None:
    if await DeclaredModel.all().using_db(db).count() >= MAX_MODELS:
        message = f"The limit of {MAX_MODELS:,} declared models is reached. Redeclare an existing model instead."
        problems.add("name", message, ProblemCode.TOO_LARGE)


async def _check_webhooks(
    problems: Problems, db: BaseDBAsyncClient, row: DeclaredModel, fields: tuple[FieldInfo, ...]
) -> None:
    """Add a problem for each webhook that uses fields which the new schema lacks."""
    old_paths = webhook_models.template_paths(row.field_infos)
    new_paths = webhook_models.template_paths(fields)
    if set(old_paths) <= set(new_paths):
        return
    yielder = LoopYielder()
    for webhook in await Webhook.filter(model=row.name, deleted_at=None).using_db(db).order_by("id"):
        lost: set[str] = set()
        for template in list_templates(webhook):
            await yielder.pause()
            lost |= _lost_paths(template, old_paths, new_paths)
        if lost:
            problems.add("json_schema", _lost_paths_message(webhook, sorted(lost)), ProblemCode.CONFLICT)


def _lost_paths(template: PlacedTemplate, old_paths: list[str], new_paths: list[str]) -> set[str]:
    unknown = find_unknown_paths(template.text, fields=new_paths, is_condition=template.is_condition)
    if not unknown:
        return set()
    return unknown - find_unknown_paths(template.text, fields=old_paths, is_condition=template.is_condition)


def _lost_paths_message(webhook: Webhook, paths: list[str]) -> str:
    webhook_id = encode(Prefix.WEBHOOK, webhook.id)
    named_webhook = f'The webhook "{webhook.name}"' if webhook.name else "The webhook"
    named_paths = ", ".join(paths[:_MAX_NAMED_PATHS])
    if len(paths) > _MAX_NAMED_PATHS:
        named_paths += f" and {len(paths) - _MAX_NAMED_PATHS} more"
    return (
        f"{named_webhook} ({webhook_id}) uses {named_paths}, which this schema does not have. "
        "Change the webhook first, or declare the model with force: true."
    )
