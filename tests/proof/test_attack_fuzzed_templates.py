"""Generated templates: a render ends within its limits, and fails with nothing but a TemplateError."""

import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from time import thread_time
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ringback.models.errors import TemplateError
from ringback.models.templates.budget import RENDER_BUDGET_MS
from ringback.models.templates.decimal_fields import DecimalFields
from ringback.models.templates.filters.allow_list import FILTERS
from ringback.models.templates.scope import build_scope
from ringback.models.templates.template import compile_condition, compile_template
from tests.support.templates import EVENT

#: A render may overrun its time by one operation, and by one garbage collection.
MAX_SECONDS = 4 * RENDER_BUDGET_MS / 1000
MAX_MEMORY = 64 * 1024 * 1024
ITEM: dict[str, Any] = {
    "text": "a" * 50_000,
    "sought": "a" * 25_000 + "b",
    "html": "<p>&amp;" * 5_000,
    "numbers": [1.5] * 20_000,
    "rows": [{"a": number, "b": "t" * 20, "c": f"{number}.50"} for number in range(400)],
    "nested": [[["a"] * 10] * 10] * 50,
    "total": "350.50",
    "nothing": None,
}
DECIMALS = DecimalFields(
    {"item.numbers[]": "float", "item.rows[].a": "float", "item.rows[].c": "decimal", "item.total": "decimal"}
)

_literals = st.one_of(
    st.integers(-(10**30), 10**30).map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(lambda number: f"{number:f}"),
    st.sampled_from(["nil", "true", "blank", "empty", "''", "'a'", "'%Y%99d'", "'b'", "','"]),
    st.tuples(st.integers(-5, 5), st.sampled_from([5, 9_999, 10**6, 10**18])).map(
        lambda ends: f"({ends[0]}..{ends[1]})"
    ),
)
_paths = st.sampled_from(
    [*(f"item.{name}" for name in ITEM), "item", "item.rows[0].b", "item.rows.last.c", "item[x]", "x", "y", "event.id"]
)
_values = st.one_of(_paths, _paths, _literals)


@st.composite
def _filtered(draw: st.DrawFn) -> str:
    """Return a value with filters."""
    text = draw(_values)
    for name in draw(st.lists(st.sampled_from(sorted(FILTERS)), max_size=4)):
        arguments = ", ".join(draw(st.lists(_values, max_size=2)))
        text += f" | {name}: {arguments}" if arguments else f" | {name}"
    return text


@st.composite
def _conditions(draw: st.DrawFn) -> str:
    """Return a boolean expression."""
    operators = st.sampled_from(["==", "!=", "<", ">=", "contains"])
    comparisons = st.tuples(_values, operators, _values).map(" ".join)
    parts = draw(st.lists(comparisons, min_size=1, max_size=4)) * draw(st.sampled_from([1, 1, 20]))
    return draw(st.sampled_from([" and ", " or "])).join(parts)


def _blocks(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Return blocks around generated templates, each perhaps repeated."""
    loops = st.tuples(_values, inner).map(lambda parts: f"{{% for x in {parts[0]} %}}{parts[1]}{{% endfor %}}")
    branches = st.tuples(_conditions(), inner).map(lambda parts: f"{{% if {parts[0]} %}}{parts[1]}{{% endif %}}")
    captures = inner.map(lambda text: f"{{% capture y %}}{{{{ y }}}}{text}{{% endcapture %}}")
    cases = st.tuples(_values, _values, inner).map(
        lambda parts: f"{{% case {parts[0]} %}}{{% when {', '.join([parts[1]] * 200)} %}}{parts[2]}{{% endcase %}}"
    )
    sequences = st.lists(inner, max_size=3).map("".join)
    repeated = st.tuples(inner, st.sampled_from([5, 100])).map(lambda parts: parts[0] * parts[1])
    return st.one_of(loops, branches, captures, cases, sequences, repeated)


_outputs = _filtered().map(lambda text: f"{{{{ {text} }}}}")
_assignments = _filtered().map(lambda text: f"{{% assign y = {text} %}}")
_templates = st.recursive(st.one_of(_outputs, _assignments, st.text(max_size=5)), _blocks, max_leaves=12)

_sources = st.one_of(_templates, _templates, _conditions())


def prepare(source: str) -> Callable[[], object] | None:
    """Return the render of a template or condition, or None if it cannot be parsed."""
    scope = build_scope(ITEM, EVENT)
    try:
        if "{" in source:
            return partial(compile_template(source).render, scope, DECIMALS)
        return partial(compile_condition(source).holds, scope, DECIMALS)
    except TemplateError:
        return None


@settings(max_examples=400, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(_sources)
def test_a_generated_template_ends_in_time(source: str) -> None:
    render = prepare(source)
    if render is None:
        return
    started = thread_time()
    with suppress(TemplateError):
        render()
    seconds = thread_time() - started
    assert seconds <= MAX_SECONDS, f"{seconds * 1e3:.0f} ms"


@settings(max_examples=100, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(_sources)
def test_a_generated_template_takes_little_memory(source: str) -> None:
    render = prepare(source)
    if render is None:
        return
    tracemalloc.start()
    try:
        with suppress(TemplateError):
            render()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak <= MAX_MEMORY, f"{peak / 1e6:.0f} MB"
