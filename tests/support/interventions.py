"""What tests of interventions ask: public ids, ended events, and refusals that change nothing."""

from typing import Any

import pytest

from ringback.models.database import clock
from ringback.models.delivery_log import LogEntry
from ringback.models.enums import EventStatus
from ringback.models.errors import InputRejected, Problem
from ringback.models.event import Event
from ringback.models.ids import Prefix, encode
from ringback.models.security.address_policy import AddressPolicy
from ringback.models.security.inbox_addresses import InboxAddresses
from ringback.models.services.webhooks import Webhooks
from ringback.models.webhook import Webhook
from tests.support import builders


def key(webhook: Webhook) -> str:
    """Return the public id of a webhook."""
    return encode(Prefix.WEBHOOK, webhook.id)


def public(event: Event) -> str:
    """Return the public id of an event."""
    return encode(Prefix.EVENT, event.id)


def webhooks() -> Webhooks:
    """Return the webhooks of the open database, for public targets only."""
    return Webhooks(AddressPolicy(), InboxAddresses("http://127.0.0.1:8000"), builders.BOX)


async def refused(asked: Any) -> Problem:
    """Return why what was asked is refused; it must have changed nothing."""
    before = await Event.all().values(), await LogEntry.all().count()
    with pytest.raises(InputRejected) as caught:
        await asked
    assert (await Event.all().values(), await LogEntry.all().count()) == before
    (problem,) = caught.value.problems
    return problem


async def ended(webhook: Webhook, status: EventStatus = EventStatus.FAILED, **fields: Any) -> Event:
    """Make an event that ended after three attempts."""
    given = {"attempt_count": 3, "next_attempt_at": None, "finished_at": await clock.now(), **fields}
    return await builders.event(webhook, status=status, **given)
