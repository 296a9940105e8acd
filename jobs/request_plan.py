"""What the requests of a webhook have in common: worked out once, and kept as long as the webhook is.

`models.queue.webhook_cache` hands out the same object until the webhook changes, and bounds by their size how many it
keeps: each plan is kept for one object, and forgotten with it. What Liquid makes, and what is at fault, differs from
event to event and is no part of a plan.
"""

from importlib.metadata import version
from weakref import ref

from yarl import URL

from ringback.jobs.http.request import Headers, RequestTemplate
from ringback.models.enums import HttpMethod
from ringback.models.errors import TemplateError
from ringback.models.security.url_rules import check_url, header_value_fault
from ringback.models.templates.template import compile_template
from ringback.models.webhook import Webhook

USER_AGENT = f"Ringback/{version('ringback')}"
#: Headers whose values differ from one attempt to another; they come last.
OWN_HEADERS = (
    "PS-WEBHOOK_EVENT-ID",
    "Ringback-Event",
    "Ringback-Attempt",
    "webhook-id",
    "webhook-timestamp",
    "webhook-signature",
)
FORM = "application/x-www-form-urlencoded"
JSON = "application/json"
_BODILESS = (HttpMethod.GET, HttpMethod.DELETE)


class RequestPlan:
    """What the requests of a webhook have in common.

    `first` are the headers that stand before the webhook's own. `url` is None when it holds Liquid, or a fault;
    `template` when the URL or a header does.
    """

    __slots__ = ("first", "has_body", "method", "template", "url")

    def __init__(self, webhook: Webhook) -> None:
        self.method = str(webhook.method)
        self.has_body = webhook.send_json or bool(webhook.body_template) or webhook.method not in _BODILESS
        content_type = webhook.content_type or (JSON if webhook.send_json else FORM)
        self.first: Headers = (("Content-Type", content_type),) if self.has_body else ()
        if not any(name.lower() == "user-agent" for name, _ in webhook.headers):
            self.first = (("User-Agent", USER_AGENT), *self.first)
        address = _fixed(webhook.url)
        self.url = URL(address) if address is not None and not check_url(address) else None
        values = [(name, _fixed(template)) for name, template in webhook.headers]
        sound = [(name, value) for name, value in values if value is not None and header_value_fault(value) is None]
        self.template: RequestTemplate | None = None
        if self.url is not None and len(sound) == len(values):
            self.template = RequestTemplate(self.method, self.url, (*self.first, *sound), OWN_HEADERS)


class RequestPlans:
    """The plans of the webhooks that there are at the moment."""

    def __init__(self) -> None:
        self._kept: dict[int, tuple[RequestPlan, ref[Webhook]]] = {}

    def of(self, webhook: Webhook) -> RequestPlan:
        """The plan of a webhook, which must not be changed any more."""
        key = id(webhook)
        kept = self._kept.get(key)
        if kept is not None:
            return kept[0]
        plan = RequestPlan(webhook)
        # The reference ends before another object can have the same identity.
        self._kept[key] = plan, ref(webhook, lambda _: self._kept.pop(key, None))
        return plan


def _fixed(template: str) -> str | None:
    """What a template that holds no Liquid is rendered to, without white space around it; else None."""
    if "{" not in template:
        return template.strip()
    try:
        text = compile_template(template).text
    except TemplateError:
        return None
    return None if text is None else text.strip()
