"""An item, its event and its fields for templates, and short ways to render and to fail."""

from collections.abc import Callable

import pytest

from ringback.models.errors import TemplateError
from ringback.models.templates.scope import EventFacts, scope
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

SCOPE = scope(ITEM, EVENT)

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
    """Return what a template prints of `SCOPE`."""
    return compile_template(source).render(SCOPE)


def failure(act: Callable[[], object]) -> TemplateError:
    """Return the error that `act` raises."""
    with pytest.raises(TemplateError) as caught:
        act()
    return caught.value


def said(error: TemplateError) -> tuple[str, int | None, int | None]:
    """Return the message of an error, its line and its column."""
    return str(error).split(" (line ")[0], error.line, error.column


ROUNDS = "{% for i in (1..9000) %}"


def each(markup: str) -> str:
    """Return a loop of 9,000 rounds around `markup`."""
    return ROUNDS + markup + "{% endfor %}"
