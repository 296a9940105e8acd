"""From a webhook, an event and its snapshot to the request that goes out (rules 3 and 5 of the design)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import orjson
from ringback.jobs.sender import OutgoingRequest
from ringback.models import outbox
from ringback.models.addresses import check_url
from ringback.models.errors import TemplateError
from ringback.models.event import Change, Event
from ringback.models.ids import Prefix, encode
from ringback.models.signing import signature_headers
from ringback.models.templates import compile_condition, compile_template, scope
from ringback.models.webhook import HttpMethod, Webhook
from ringback.models.webhooks import header_value_fault
from yarl import URL

USER_AGENT = f"Ringback/{version('ringback')}"
EVENT_ID_HEADER = "PS-WEBHOOK_EVENT-ID"
EVENT_HEADER = "Ringback-Event"
FORM = "application/x-www-form-urlencoded"
JSON = "application/json"
_BODILESS = (HttpMethod.GET, HttpMethod.DELETE)


@dataclass(frozen=True, slots=True)
class Rendered:
    """The parts of a request that templates make; signing adds the rest when it is sent."""

    method: str
    url: URL
    headers: tuple[tuple[str, str], ...]
    body: bytes | None


def render(webhook: Webhook, event: Event, change: Change | None) -> Rendered:
    """Render URL, headers and body; raises TemplateError with a sentence that says which of them failed and why."""
    item = item_of(event, change)
    facts = scope(item, outbox.facts(event, change))
    if webhook.condition is not None and not event.is_test:
        _part("The condition", lambda: str(compile_condition(webhook.condition or "").holds(facts)))
    url = _part("The URL", lambda: compile_template(webhook.url).render(facts)).strip()
    problems = check_url(url)
    if problems:
        raise TemplateError(f"The URL was rendered to {url[:200]!r}, which cannot be used: {'; '.join(problems)}")
    headers = [
        (name, _header(name, _part(f"The header {name}", lambda v=value: compile_template(v).render(facts))))
        for name, value in webhook.headers
    ]
    body = _body(webhook, item, facts)
    if body is not None:
        headers.insert(0, ("Content-Type", webhook.content_type or (JSON if webhook.send_json else FORM)))
    if not any(name.lower() == "user-agent" for name, _ in headers):
        headers.insert(0, ("User-Agent", USER_AGENT))
    event_id = encode(Prefix.EVENT, event.id)
    headers += [(EVENT_ID_HEADER, event_id), (EVENT_HEADER, f"{event.model}.{event.action.lower()}")]
    return Rendered(webhook.method.value, URL(url), tuple(headers), body)


def sign(rendered: Rendered, event: Event, *, timestamp: int, secrets: Sequence[str]) -> OutgoingRequest:
    """The request with the Standard Webhooks headers of this attempt; `timestamp` in Unix seconds."""
    event_id = encode(Prefix.EVENT, event.id)
    signed = signature_headers(event_id=event_id, timestamp=timestamp, body=rendered.body or b"", secrets=secrets)
    return OutgoingRequest(rendered.method, rendered.url, (*rendered.headers, *signed.items()), rendered.body)


def item_of(event: Event, change: Change | None) -> Mapping[str, Any]:
    """The snapshot that an event tells of."""
    if change is not None:
        return change.item
    return event.test_item or {}


def _body(webhook: Webhook, item: Mapping[str, Any], facts: Mapping[str, object]) -> bytes | None:
    if webhook.send_json:
        return orjson.dumps(item)
    if webhook.method in _BODILESS and not webhook.body_template:
        return None
    return _part("The body", lambda: compile_template(webhook.body_template).render(facts)).encode("utf-8", "replace")


def _header(name: str, value: str) -> str:
    value = value.strip()
    fault = header_value_fault(value)
    if fault is not None:
        raise TemplateError(f"The header {name} was rendered to {value[:200]!r}, which {fault}")
    return value


def _part(what: str, make: Any) -> str:
    try:
        return str(make())
    except TemplateError as error:
        raise TemplateError(f"{what} cannot be rendered: {error}") from error
