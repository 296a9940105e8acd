"""The fields of a webhook that administrators set, and how the table stores them."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

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


def read_spec(webhook: Webhook) -> WebhookSpec:
    """Return the spec that a row stores."""
    return WebhookSpec(**{name: _read_field(webhook, name) for name in FIELD_NAMES})


def write_spec(webhook: Webhook, spec: WebhookSpec) -> None:
    """Set the columns of a row to the values of a spec, without saving it."""
    for name in FIELD_NAMES:
        _write_field(webhook, name, getattr(spec, name))


class _Column(NamedTuple):
    """A column whose name or type differs from the field that it stores."""

    name: str
    to_column: Callable[[Any], Any]
    to_field: Callable[[Any], Any]


def _actions_to_json(actions: tuple[Action, ...]) -> list[str]:
    return [action.value for action in actions]


def _actions_from_json(names: list[str]) -> tuple[Action, ...]:
    return tuple(Action(name) for name in names)


def _headers_to_json(headers: tuple[tuple[str, str], ...]) -> list[list[str]]:
    return [[name, value] for name, value in headers]


def _headers_from_json(headers: list[list[str]]) -> tuple[tuple[str, str], ...]:
    return tuple((name, value) for name, value in headers)


#: All other fields are stored unchanged, in a column of the same name.
_CONVERTED: Mapping[str, _Column] = {
    "actions": _Column(name="actions", to_column=_actions_to_json, to_field=_actions_from_json),
    "headers": _Column(name="headers", to_column=_headers_to_json, to_field=_headers_from_json),
    "retry_delays_seconds": _Column(name="retry_delays", to_column=list, to_field=tuple),
}


def _read_field(webhook: Webhook, name: str) -> Any:
    column = _CONVERTED.get(name)
    if column is None:
        return getattr(webhook, name)
    return column.to_field(getattr(webhook, column.name))


def _write_field(webhook: Webhook, name: str, value: Any) -> None:
    column = _CONVERTED.get(name)
    if column is None:
        setattr(webhook, name, value)
    else:
        setattr(webhook, column.name, column.to_column(value))


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
