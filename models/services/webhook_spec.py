"""The fields of a webhook that administrators set, and how the table stores them."""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import NamedTuple

from ringback.models.enums import Action, HttpMethod, SuccessPolicy
from ringback.models.webhook import DEFAULT_RETRY_DELAYS_SECONDS, DEFAULT_TIMEOUT_SECONDS, Webhook


@dataclass(frozen=True, slots=True)
class WebhookSpec:
    """A webhook as an administrator writes it. `headers` are pairs of name and value.

    This is the only list of these fields: `read_spec` and `write_spec` take the names from here.
    """

    model: str
    actions: tuple[Action, ...]
    url: str
    name: str | None = None
    method: HttpMethod = HttpMethod.POST
    is_active: bool = True
    send_json: bool = False
    body_template: str = ""
    content_type: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    condition: str | None = None
    retry_delays_seconds: tuple[int, ...] = DEFAULT_RETRY_DELAYS_SECONDS
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS
    success_policy: SuccessPolicy = SuccessPolicy.STATUS_200
    max_concurrency: int | None = None
    rate_limit_per_second: float | None = None


FIELD_NAMES = frozenset(field.name for field in fields(WebhookSpec))
#: Fields that an update may set to null.
CLEARABLE = frozenset(field.name for field in fields(WebhookSpec) if field.default is None)
#: Fields whose column has the same name and type.
_STORED_AS_IS = FIELD_NAMES - {"actions", "headers", "retry_delays_seconds"}


def read_spec(webhook: Webhook) -> WebhookSpec:
    """Return the spec that a row stores."""
    stored = {name: getattr(webhook, name) for name in _STORED_AS_IS}
    headers = tuple((name, value) for name, value in webhook.headers)
    return WebhookSpec(
        **stored,
        actions=tuple(map(Action, webhook.actions)),
        headers=headers,
        retry_delays_seconds=tuple(webhook.retry_delays),
    )


def write_spec(webhook: Webhook, spec: WebhookSpec) -> None:
    """Set the columns of a row to the values of a spec, without saving it."""
    for name in _STORED_AS_IS:
        setattr(webhook, name, getattr(spec, name))
    webhook.actions = [action.value for action in spec.actions]
    webhook.headers = [[name, value] for name, value in spec.headers]
    webhook.retry_delays = list(spec.retry_delays_seconds)


class PlacedTemplate(NamedTuple):
    """A Liquid template or condition of a webhook, and its place as the API writes it, such as headers[0].value."""

    place: str
    text: str
    is_condition: bool = False


def list_templates(webhook: Webhook) -> Iterator[PlacedTemplate]:
    """Yield the templates of a stored webhook that its deliveries use."""
    yield PlacedTemplate("url", webhook.url)
    for index, (_, value) in enumerate(webhook.headers):
        yield PlacedTemplate(f"headers[{index}].value", value)
    if not webhook.send_json:
        yield PlacedTemplate("bodyTemplate", webhook.body_template)
    if webhook.condition is not None:
        yield PlacedTemplate("condition", webhook.condition, is_condition=True)
