"""The parts that all requests of a webhook share, computed once for each version of the webhook.

`models.queue.webhook_cache` returns the same object until the webhook changes, and limits the total size of the
webhooks in it. A plan belongs to one such object and is forgotten with it. Text that Liquid renders differs between
events and is not part of a plan; neither is text with a fault, so that each attempt reports it.
"""

from importlib.metadata import version
from weakref import finalize

from ringback.jobs.http.request import Headers, RequestTemplate
from ringback.models.enums import HttpMethod
from ringback.models.errors import TemplateError
from ringback.models.security.url_rules import Target, check_header_value, check_url, count_dot_segments, parse_target
from ringback.models.templates.budget import MAX_SHORT_CHARACTERS
from ringback.models.templates.charset import body_charset
from ringback.models.templates.template import compile_template
from ringback.models.webhook import Webhook

USER_AGENT = f"Ringback/{version('ringback')}"
#: Ringback's own headers, which go out last, in this order. `renderer.sign` makes their values.
ATTEMPT_HEADERS = (
    "PS-WEBHOOK_EVENT-ID",
    "Ringback-Event",
    "Ringback-Attempt",
    "webhook-id",
    "webhook-timestamp",
    "webhook-signature",
)
FORM = "application/x-www-form-urlencoded"
JSON = "application/json"
_WITHOUT_DEFAULT_BODY = (HttpMethod.GET, HttpMethod.DELETE)


class RequestPlan:
    """The parts that all requests of a webhook share.

    `default_headers` precede the webhook's own. `target` is None if the URL holds Liquid or a fault, `template` if the
    URL or a header does. `dot_segments` counts those that the URL holds as literal text. `has_long_texts` is the result
    of the function with this name. `item_template` is the template if requests differ only in the item, sent
    as JSON in UTF-8.
    """

    __slots__ = (
        "charset",
        "default_headers",
        "dot_segments",
        "has_body",
        "has_long_texts",
        "item_template",
        "method",
        "target",
        "template",
    )

    def __init__(self, webhook: Webhook) -> None:
        self.has_long_texts = has_long_texts(webhook)
        self.method = str(webhook.method)
        self.has_body = webhook.send_json or bool(webhook.body_template) or webhook.method not in _WITHOUT_DEFAULT_BODY
        self.charset = body_charset(_content_type(webhook))
        self.default_headers = _default_headers(webhook, has_body=self.has_body)
        self.dot_segments = count_dot_segments(webhook.url)
        self.target = _plain_target(webhook.url, self.dot_segments)
        self.template: RequestTemplate | None = None
        own_headers = _plain_headers(webhook.headers)
        if self.target is not None and own_headers is not None:
            fixed_headers = (*self.default_headers, *own_headers)
            self.template = RequestTemplate(self.method, self.target, fixed_headers, ATTEMPT_HEADERS)
        self.item_template: RequestTemplate | None = None
        if webhook.send_json and self.charset.is_utf8 and webhook.condition is None:
            self.item_template = self.template


class RequestPlans:
    """The plans of all webhook objects that exist, by the identity of the object."""

    def __init__(self) -> None:
        self._plans: dict[int, RequestPlan] = {}

    def find(self, webhook: Webhook) -> RequestPlan | None:
        """Return the plan of a webhook if it has one already."""
        return self._plans.get(id(webhook))

    def has_long_texts(self, webhook: Webhook) -> bool:
        """Return whether compiling the texts of a webhook may take long. This makes no plan, which compiles them."""
        plan = self.find(webhook)
        if plan is None:
            return has_long_texts(webhook)
        return plan.has_long_texts

    def get(self, webhook: Webhook) -> RequestPlan:
        """Return the plan of a webhook, which must not be changed any more."""
        key = id(webhook)
        plan = self._plans.get(key)
        if plan is None:
            plan = self._plans[key] = RequestPlan(webhook)
            # This runs before another object can have the same id.
            finalize(webhook, self._plans.pop, key, None)
        return plan


def list_templates(webhook: Webhook) -> list[str]:
    """Return the texts with Liquid: URL, header values and, unless the item is sent as JSON, the body template."""
    texts = [webhook.url, *(value for _, value in webhook.headers)]
    if not webhook.send_json:
        texts.append(webhook.body_template)
    return [text for text in texts if "{" in text]


def has_long_texts(webhook: Webhook) -> bool:
    """Return whether compiling the templates and the condition of a webhook may take long."""
    characters = len(webhook.url) + len(webhook.body_template) + len(webhook.condition or "")
    characters += sum([len(value) for _, value in webhook.headers])
    return characters > MAX_SHORT_CHARACTERS


def _default_headers(webhook: Webhook, *, has_body: bool) -> Headers:
    headers: list[tuple[str, str]] = []
    if not any(name.lower() == "user-agent" for name, _ in webhook.headers):
        headers.append(("User-Agent", USER_AGENT))
    if has_body:
        headers.append(("Content-Type", _content_type(webhook)))
    return tuple(headers)


def _content_type(webhook: Webhook) -> str:
    if webhook.content_type:
        return webhook.content_type
    if webhook.send_json:
        return JSON
    return FORM


def _plain_target(template: str, dot_segments: int) -> Target | None:
    """Return the target of a URL without Liquid and without a fault; otherwise None."""
    url = _plain_text(template)
    if url is None or check_url(url, allowed_dot_segments=dot_segments):
        return None
    return parse_target(url)


def _plain_headers(templates: list[list[str]]) -> Headers | None:
    """Return headers without Liquid and without a fault; None if one of them has either."""
    headers: list[tuple[str, str]] = []
    for name, template in templates:
        value = _plain_text(template)
        if value is None or check_header_value(value) is not None:
            return None
        headers.append((name, value))
    return tuple(headers)


def _plain_text(template: str) -> str | None:
    """Return the text of a template without Liquid, stripped; None if it holds Liquid or is invalid."""
    if "{" not in template:
        return template.strip()
    try:
        text = compile_template(template).text
    except TemplateError:
        return None
    if text is None:
        return None
    return text.strip()
