"""Requests rendered from webhooks, events and changes that are not in a database."""

from typing import Any

import pytest
from yarl import URL

from ringback.jobs import renderer
from ringback.jobs.http.request import Headers, OutgoingRequest
from ringback.jobs.request_plan import RequestPlan
from ringback.models.errors import TemplateError
from ringback.models.ids import Prefix, encode
from ringback.models.queue.claims import ClaimedChange, ClaimedEvent
from ringback.models.webhook import Webhook
from tests.support.unsaved import KEY, change, event, webhook

EVENT_ID = encode(Prefix.EVENT, KEY)


class TestedRequest(OutgoingRequest):
    """A rendered request with the properties that tests assert."""

    @property
    def method(self) -> str:
        return self.template.method

    @property
    def url(self) -> URL:
        return URL(self.template.target.text)

    @property
    def headers(self) -> Headers:
        """The headers of the webhook; `sign` adds ATTEMPT_HEADERS."""
        return (*self.template.fixed_headers, *zip(self.template.variable_names, self.values, strict=False))


def render(webhook: Webhook, event: ClaimedEvent, change: ClaimedChange | None) -> TestedRequest:
    """Render the request of an event by a new plan of the webhook."""
    rendered = renderer.render(RequestPlan(webhook), webhook, event, change)
    return TestedRequest(rendered.template, rendered.values, rendered.body, rendered.codec, rendered.note)


def render_webhook(item: dict[str, Any] | None = None, **fields: Any) -> TestedRequest:
    """Render the request of a webhook with these fields."""
    return render(webhook(**fields), event(), change(item))


def render_error(item: dict[str, Any] | None = None, **fields: Any) -> str:
    """Return the message of the TemplateError of a webhook with these fields."""
    with pytest.raises(TemplateError) as caught:
        render_webhook(item, **fields)
    return str(caught.value)
