"""Webhooks, events and changes that are in no database."""

import datetime as dt
from typing import Any
from uuid import UUID

from ringback.models.event import Change, Event
from ringback.models.webhook import Action, Webhook

AT = dt.datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=dt.UTC)


KEY = UUID("01890a5d-ac96-774b-bcce-b302099a8057")


ITEM = {"id": "lead_1", "name": "Мария & Co", "phone": "+7 900", "note": "a=b", "tags": ["x", "y"], "n": 3}


def webhook(**fields: Any) -> Webhook:
    given = {"model": "lead", "actions": ["CREATED"], "url": "https://hooks.example/in", "signing_secret": "", **fields}
    return Webhook(created_at=AT, updated_at=AT, **given)


def event(**fields: Any) -> Event:
    given = {"model": "lead", "action": Action.CREATED, "max_attempts": 3, "created_at": AT, **fields}
    return Event(id=KEY, **given)


def change(item: dict[str, Any] | None = None, **fields: Any) -> Change:
    given = {"model": "lead", "action": Action.CREATED, "object_id": "lead_1", "created_at": AT, **fields}
    return Change(item=ITEM if item is None else item, **given)
