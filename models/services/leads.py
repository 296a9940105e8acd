"""Request a callback, and update and delete leads."""

import datetime as dt
from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from tortoise.backends.base.client import BaseDBAsyncClient
from tortoise.transactions import in_transaction

from ringback.models.database.group_commit import GroupCommit
from ringback.models.database.sql import choose_database, lock_row
from ringback.models.database.unit_of_work import find_unit
from ringback.models.ids import Prefix
from ringback.models.lead import Lead
from ringback.models.services.site_settings import tracks_leads
from ringback.models.services.validation import Problems, check_unchanged, parse_id, require_found
from ringback.models.tracking import outbox

MAX_NAME_CHARS, MAX_PHONE_CHARS, MAX_COMMENT_CHARS = 200, 64, 10_000

_COLUMNS = tuple(Lead._meta.fields_db_projection)
_column_values = attrgetter(*_COLUMNS)


class _CallbackRequest(NamedTuple):
    name: str
    phone: str


async def request_callback(name: str, phone: str) -> Lead | None:
    """Store a callback request as a lead. Return None, and store nothing, if the site setting trackLeads is off.

    Raises InputRejected, whether trackLeads is on or off.
    """
    problems = Problems()
    name = problems.check_form_line("name", name, max_chars=MAX_NAME_CHARS) or ""
    phone = problems.check_form_line("phone", phone, max_chars=MAX_PHONE_CHARS) or ""
    problems.raise_if_any()
    db = choose_database(Lead)
    if find_unit(db) is not None:
        # The caller's transaction may change the lead further, so the signals must record it.
        return await _create_lead(name, phone)
    group_commit = _group_commits.setdefault(db, GroupCommit(_create_leads))
    return await group_commit.do(_CallbackRequest(name, phone))


async def update_lead(lead_id: str, changes: Mapping[str, Any], expected_updated_at: dt.datetime | None = None) -> Lead:
    """Change the given fields of a lead. Raises InputRejected."""
    key = parse_id(Prefix.LEAD, lead_id)
    values = _check_changes(changes)
    async with in_transaction() as db:
        lead = require_found(await lock_row(db, Lead, id=key), "lead", lead_id)
        check_unchanged(lead.updated_at, expected_updated_at)
        if any(getattr(lead, name) != value for name, value in values.items()):
            await lead.update_from_dict(values).save(using_db=db)
        return lead


async def delete_lead(lead_id: str) -> None:
    """Delete a lead. Raises InputRejected."""
    key = parse_id(Prefix.LEAD, lead_id)
    async with in_transaction() as db:
        lead = require_found(await lock_row(db, Lead, id=key), "lead", lead_id)
        await lead.delete(using_db=db)


async def _create_lead(name: str, phone: str) -> Lead | None:
    async with in_transaction() as db:
        if not await tracks_leads(db):
            return None
        return await Lead.create(name=name, phone=phone, using_db=db)


async def _create_leads(requests: Sequence[_CallbackRequest]) -> list[Lead | None]:
    """Store callback requests in a transaction of their own, bypassing the signals."""
    now = dt.datetime.now(dt.UTC)
    leads = [Lead(name=name, phone=phone, created_at=now, updated_at=now) for name, phone in requests]
    rows = [_column_values(lead) for lead in leads]
    early = await outbox.evaluate_inserts_early(Lead, _COLUMNS, rows)
    async with in_transaction() as db:
        if not await tracks_leads(db):
            return [None] * len(requests)
        await outbox.insert_with_events(db, Lead, _COLUMNS, rows, early)
    for lead in leads:
        lead._saved_in_db = True
    return list(leads)


#: Callback requests that wait for a transaction, by database.
_group_commits: WeakKeyDictionary[BaseDBAsyncClient, GroupCommit[_CallbackRequest, Lead | None]] = WeakKeyDictionary()


def _check_changes(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the changes with texts stripped. Raises InputRejected."""
    problems = Problems()
    values = dict(changes)
    problems.check_nulls(values, clearable={"comment"})
    if values.get("name") is not None:
        values["name"] = problems.check_form_line("name", values["name"], max_chars=MAX_NAME_CHARS)
    if values.get("phone") is not None:
        values["phone"] = problems.check_form_line("phone", values["phone"], max_chars=MAX_PHONE_CHARS)
    if "comment" in values:
        values["comment"] = problems.check_text("comment", values["comment"], max_chars=MAX_COMMENT_CHARS)
    problems.raise_if_any()
    return values
