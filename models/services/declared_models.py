"""Declare models whose objects live in another program."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import orjson
from tortoise.backends.base.client import BaseDBAsyncClient
from tortoise.transactions import in_transaction

from ringback.models.database import advisory_locks, clock
from ringback.models.database.sql import lock_row
from ringback.models.declared_model import DeclaredModel, to_template_fields
from ringback.models.errors import InputRejected, Problem, ProblemCode
from ringback.models.ids import is_id
from ringback.models.json_schema.compiler import run_in_schema_thread
from ringback.models.json_schema.findings import Finding, quote_path
from ringback.models.json_schema.schema import MAX_ITEM_BYTES, CheckBudget, check_schema
from ringback.models.json_schema.subschemas import SchemaFault
from ringback.models.services import webhook_models
from ringback.models.services.lost_fields import LostFieldsCheck
from ringback.models.services.validation import Problems, api_name
from ringback.models.templates.field_info import FieldInfo
from ringback.models.tracking.registry import NAME_PATTERN, registry

MAX_LABEL_CHARS, MAX_DESCRIPTION_CHARS = 200, 10_000
#: Maximum number of declared models. `webhookModels` returns all of them in one response.
MAX_MODELS = 1_000
#: Ids of single objects, which are not TypeIDs. A model's id is its name, so the two must differ.
_RESERVED_NAMES = {"site_settings"}
#: Key of the queue in which declarations wait for the schema thread.
_DECLARATIONS = "declarations"


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
    check = LostFieldsCheck(name, fields)
    while True:
        if not force:
            await check.run(problems)
            problems.raise_if_any()
        declared = await _save(name, values, None if force else check)
        if declared is not None:
            return declared


def add_findings(problems: Problems, field: str, findings: Iterable[Finding]) -> None:
    """Add a problem for each finding in the JSON value of a field."""
    for finding in findings:
        code = ProblemCode.TOO_LARGE if finding.is_limit else ProblemCode.INVALID
        path = quote_path(finding.path)
        problems.add(field, f"{api_name(field)}{path} {finding.message}.", code, within=path)


async def _save(name: str, values: Mapping[str, Any], check: LostFieldsCheck | None) -> DeclaredModel | None:
    """Store a declaration. Return None if the check is outdated and must run again. Raises InputRejected."""
    async with in_transaction() as db:
        await advisory_locks.acquire(db, [webhook_models.lock_name(name)])
        row = await lock_row(db, DeclaredModel, name=name)
        now = await clock.now(db)
        if row is None:
            await _check_model_count(db)
            return await DeclaredModel.create(name=name, **values, created_at=now, updated_at=now, using_db=db)
        if all(getattr(row, column) == value for column, value in values.items()):
            return row
        if check is not None and not await check.is_current(db, row):
            return None
        row.update_from_dict({**values, "updated_at": now})
        await row.save(using_db=db)
        return row


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


async def _check_model_count(db: BaseDBAsyncClient) -> None:
    if await DeclaredModel.all().using_db(db).count() >= MAX_MODELS:
        message = f"The limit of {MAX_MODELS:,} declared models is reached. Redeclare an existing model instead."
        raise InputRejected(Problem(message, "name", ProblemCode.TOO_LARGE))
