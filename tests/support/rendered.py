"""Requests rendered from webhooks, events and changes that are in no database."""

from typing import Any

import pytest

from ringback.jobs import renderer
from ringback.jobs.http.request import Headers
from ringback.jobs.renderer import RenderedRequest
from ringback.jobs.request_plan import RequestPlan
from ringback.models.errors import TemplateError
from ringback.models.ids import Prefix, encode
from ringback.models.queue.claims import ClaimedChange, ClaimedEvent
from ringback.models.webhook import Webhook
from tests.support.unsaved import KEY, change, event, webhook

EVENT_ID = encode(Prefix.EVENT, KEY)
#: Ringback's own headers, as far as they are known before the request is signed.
OURS = (("PS-WEBHOOK_EVENT-ID", EVENT_ID), ("Ringback-Event", "lead.created"))


class Made(RenderedRequest):
    """A rendered request, with what tests ask of it."""

    @property
    def method(self) -> str:
        return self.template.method

    @property
    def headers(self) -> Headers:
        """The headers whose values are known before the request is signed."""
        return (*self.template.same, *zip(self.template.names, self.values, strict=False))


def render(webhook: Webhook, event: ClaimedEvent, change: ClaimedChange | None) -> Made:
    """Return the request of an event by a new plan of the webhook."""
    return Made(*renderer.render(RequestPlan(webhook), webhook, event, change))


def rendered(item: dict[str, Any] | None = None, **fields: Any) -> Made:
    """Return the request that a webhook with these fields makes of an event."""
    return render(webhook(**fields), event(), change(item))


def refusal(item: dict[str, Any] | None = None, **fields: Any) -> str:
    """Return the message with which rendering is refused."""
    with pytest.raises(TemplateError) as caught:
        rendered(item, **fields)
    return str(caught.value)
