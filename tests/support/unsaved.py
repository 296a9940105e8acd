"""Webhooks, events and changes that are in no database, as deliveries see them."""

import datetime as dt
from dataclasses import replace
from typing import Any
from uuid import UUID

import orjson

from ringback.models.enums import Action, EventStatus
from ringback.models.ids import new_key
from ringback.models.queue.claims import ClaimedChange, ClaimedEvent
from ringback.models.webhook import Webhook

AT = dt.datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=dt.UTC)
KEY = UUID("01890a5d-ac96-774b-bcce-b302099a8057")
ITEM = {"id": "lead_1", "name": "Мария & Co", "phone": "+7 900", "note": "a=b", "tags": ["x", "y"], "n": 3}


def webhook(**fields: Any) -> Webhook:
    given = {"model": "lead", "actions": ["CREATED"], "url": "https://hooks.example/in", "signing_secret": "", **fields}
    return Webhook(created_at=AT, updated_at=AT, **given)


def event(**fields: Any) -> ClaimedEvent:
    first = ClaimedEvent(
        id=KEY,
        webhook_id=new_key(),
        model="lead",
        action=Action.CREATED,
        is_test=False,
        test_item=None,
        status=EventStatus.PENDING,
        attempt_count=0,
        attempts_before_round=0,
        abandoned_in_a_row=0,
        max_attempts=3,
        next_attempt_at=AT,
        created_at=AT,
        finished_at=None,
        condition_pending=False,
    )
    return replace(first, **fields)


def change(item: dict[str, Any] | None = None, changed_fields: list[str] | None = None) -> ClaimedChange:
    encoded = [orjson.dumps(value).decode() for value in (ITEM if item is None else item, changed_fields or [])]
    return ClaimedChange(*encoded)
