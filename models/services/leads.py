"""Leads and callback requests: request, update, delete."""

import datetime as dt
from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any
from weakref import WeakKeyDictionary

from tortoise.backends.base.client import BaseDBAsyncClient
from tortoise.transactions import in_transaction

from ringback.models.database.group_commit import GroupCommit
from ringback.models.database.sql import lock
from ringback.models.database.unit_of_work import unit_of
from ringback.models.ids import Prefix
from ringback.models.lead import Lead
from ringback.models.services.site_settings import tracks_leads
from ringback.models.services.validation import Problems, check_unchanged, parse_id, require_found
from ringback.models.tracking import outbox

#: Longest texts, in characters.
MAX_NAME, MAX_PHONE, MAX_COMMENT = 200, 64, 10_000


async def request_callback(name: str, phone: str) -> Lead | None:
    """Take a callback request; it becomes a lead while the site setting trackLeads is on (rule 10).

    Raises InputRejected when the form is not filled in.
    """
    problems = Problems()
    name = problems.line("name", name, longest=MAX_NAME) or ""
    phone = problems.line("phone", phone, longest=MAX_PHONE) or ""
    problems.refuse_if_any()
    db = Lead._choose_db(True)
    if unit_of(db) is not None:  # in which more may happen to the lead
        async with in_transaction() as tx:
            return await Lead.create(name=name, phone=phone, using_db=tx) if await tracks_leads(tx) else None
    return await _gatherings.setdefault(db, GroupCommit(_take)).do((name, phone))


#: The callback requests of this process, by the database that takes them.
_gatherings: WeakKeyDictionary[BaseDBAsyncClient, GroupCommit[tuple[str, str], Lead | None]] = WeakKeyDictionary()


async def _take(requests: Sequence[tuple[str, str]]) -> list[Lead | None]:
    """Take requests of these names and phone numbers in one transaction, which does nothing else."""
    async with in_transaction() as db:
        if not await tracks_leads(db):
            return [None] * len(requests)
        now = dt.datetime.now(dt.UTC)
        leads = [Lead(name=name, phone=phone, created_at=now, updated_at=now) for name, phone in requests]
        await outbox.insert_with_events(db, Lead, _COLUMNS, [_values(lead) for lead in leads])
    for lead in leads:
        lead._saved_in_db = True
    return list(leads)


_COLUMNS = tuple(Lead._meta.fields_db_projection)


_values = attrgetter(*_COLUMNS)


async def update_lead(lead_id: str, changes: Mapping[str, Any], expected_updated_at: dt.datetime | None = None) -> Lead:
    """Change the given fields of a lead; raises InputRejected."""
    key = parse_id(Prefix.LEAD, lead_id)
    problems = Problems()
    values = dict(changes)
    problems.no_nulls(values, clearable={"comment"})
    if values.get("name") is not None:
        values["name"] = problems.line("name", values["name"], longest=MAX_NAME)
    if values.get("phone") is not None:
        values["phone"] = problems.line("phone", values["phone"], longest=MAX_PHONE)
    if "comment" in values:
        values["comment"] = problems.text("comment", values["comment"], longest=MAX_COMMENT)
    problems.refuse_if_any()
    async with in_transaction() as db:
        lead = require_found(await lock(db, Lead, id=key), "lead", lead_id)
        check_unchanged(lead.updated_at, expected_updated_at)
        if any(getattr(lead, name) != value for name, value in values.items()):
            await lead.update_from_dict(values).save(using_db=db)
        return lead


async def delete_lead(lead_id: str) -> None:
    """Delete a lead; raises InputRejected."""
    key = parse_id(Prefix.LEAD, lead_id)
    async with in_transaction() as db:
        lead = require_found(await lock(db, Lead, id=key), "lead", lead_id)
        await lead.delete(using_db=db)
