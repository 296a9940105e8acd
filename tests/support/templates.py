"""An item, its event and its fields for templates, and helpers to render and to catch errors."""

from collections.abc import Callable

import pytest

from ringback.models.errors import TemplateError
from ringback.models.templates.scope import EventFacts, build_scope
from ringback.models.templates.template import compile_template

EVENT = EventFacts("evt_1", "Order", "updated", ("status", "phone"), "2026-01-02T03:04:05Z")

ITEM: dict[str, object] = {
    "name": "Zoë & Co",
    "phone": "+31 6",
    "status": "DONE",
    "total": "12.50",
    "count": 3,
    "rate": 1.5,
    "paid": True,
    "note": None,
    "customer": None,
    "tags": ["a", "b", "a"],
    "meta": {"k": [1, None, "é"], "ok": False},
    "items": [{"price": "1.00", "q": 2}, {"price": "2.00", "q": 5}],
    "html": "<p>Hi <b>you</b></p><!-- > no --> 1 < 2<script>x()</script><style>p{}</style>!",
}

SCOPE = build_scope(ITEM, EVENT)

FIELDS = [
    "item.id",
    "item.name",
    "item.phone",
    "item.customer.name",
    "item.items[].price",
    "item.items[].parts[].sku",
    "item.grid[][].v",
    "item.tags[]",
    "item.meta.*",
]


def render(source: str) -> str:
    """Render a template with `SCOPE`."""
    return compile_template(source).render(SCOPE)


def catch_error(action: Callable[[], object]) -> TemplateError:
    """Return the error that `action` raises."""
    with pytest.raises(TemplateError) as caught:
        action()
    return caught.value


def catch_message(action: Callable[[], object]) -> tuple[str, int | None, int | None]:
    """Return the message, line and column of the error that `action` raises."""
    return located_message(catch_error(action))


def located_message(error: TemplateError) -> tuple[str, int | None, int | None]:
    """Return the message of an error without its place, then line and column."""
    return str(error).split(" (line ")[0], error.line, error.column


def loop_around(markup: str) -> str:
    """Return a loop of 9,000 iterations around `markup`."""
    return "{% for i in (1..9000) %}" + markup + "{% endfor %}"
