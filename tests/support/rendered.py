"""Requests rendered from webhooks, events and changes that are in no database."""

from typing import Any

import pytest

from ringback.jobs.rendering import Rendered, render
from ringback.models.errors import TemplateError
from ringback.models.ids import Prefix, encode
from tests.support.unsaved import KEY, change, event, webhook

EVENT_ID = encode(Prefix.EVENT, KEY)
#: Ringback's own headers, as far as they are known before the request is signed.
OURS = (("PS-WEBHOOK_EVENT-ID", EVENT_ID), ("Ringback-Event", "lead.created"))


def rendered(item: dict[str, Any] | None = None, **fields: Any) -> Rendered:
    """Return the request that a webhook with these fields makes of an event."""
    return render(webhook(**fields), event(), change(item))


def refusal(item: dict[str, Any] | None = None, **fields: Any) -> str:
    """Return the message with which rendering is refused."""
    with pytest.raises(TemplateError) as caught:
        rendered(item, **fields)
    return str(caught.value)
