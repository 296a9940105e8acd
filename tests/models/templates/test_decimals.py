"""Decimals in templates: they compare, sort and compute as numbers, and print as stored."""

import json
from decimal import Decimal
from functools import partial
from time import thread_time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringback.models.templates.budget import RENDER_BUDGET_MS, Meter
from ringback.models.templates.decimal_fields import ALL_FIELDS, DecimalFields
from ringback.models.templates.decimals import DecimalValue, read_decimal
from ringback.models.templates.scope import build_scope
from ringback.models.templates.template import compile_condition, compile_template
from tests.support.templates import EVENT, catch_error, located_message
from tests.support.unhurried import unhurried

TYPES = {
    "item.total": "decimal",
    "item.due": "decimal",
    "item.name": "string",
    "item.rate": "float",
    "item.items": "list",
    "item.items[].price": "decimal",
    "item.items[].quantity": "integer",
    "item.grid[][].v": "decimal",
    "item.customer": "object",
    "item.customer.balance": "decimal",
    'item["unit price"]': "decimal",
}
DECIMALS = DecimalFields(TYPES)
ITEM: dict[str, Any] = {
    "total": "350.50",
    "due": "9.00",
    "name": "100",
    "rate": 5,
    "items": [
        {"price": "9.00", "quantity": 1},
        {"price": "10.00", "quantity": 2},
        {"price": None, "quantity": 0},
        {"price": "10.0", "quantity": 4},
    ],
    "grid": [[{"v": "1.50"}], [{"v": "2"}]],
    "customer": {"balance": "-0.10"},
    "unit price": "1.00",
    "undeclared": "7.00",
    "is_paid": True,
}


def render(source: str, item: dict[str, Any] = ITEM) -> str:
    return compile_template(source).render(build_scope(item, EVENT), DECIMALS)


def holds(condition: str, item: dict[str, Any] = ITEM) -> bool:
    return compile_condition(condition).holds(build_scope(item, EVENT), DECIMALS)


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("item.total > 1000", False),
        ("item.total > 99", True),
        ("item.total < 1000.5", True),
        ("item.total == 350.5", True),
        ("item.total != 350.50", False),
        ("item.due < item.total", True),
        ("item.total >= item.total", True),
        ("1000 > item.total", True),
        ("item.customer.balance < 0", True),
        ("item.customer.balance == -0.1", True),
        ("item.grid[1][0].v == 2", True),
        ("item.items.first.price <= 9", True),
        ("item.items[2].price > 0", False),
        ("item.items[2].price == blank", True),
        ('item["unit price"] == 1', True),
        ("item.rate < item.due", True),
        ("item.total == true", False),
        ("item.total contains '.5'", True),
        ("item.rate contains 5", False),
        ("item.items[0].quantity contains 1", False),
        ("item.is_paid contains true or blank contains 'a' or empty contains 'a'", False),
        ("item.total == empty or item.total == blank or item.total == nil", False),
    ],
)
def test_a_decimal_compares_as_a_number(condition: str, expected: bool) -> None:
    assert holds(condition) is expected


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("item.total > '99'", True),
        ("item.total > '1000'", False),
        ("'99' < item.total", True),
        ("item.total <= '350.5'", True),
        ("item.total >= '350.51'", False),
        ("item.total == '350.50'", True),
        ("item.total == '350.5'", True),
        ("item.total != '0.00'", True),
        ("item.total == 'abc'", False),
    ],
)
def test_a_quoted_number_compares_as_a_number_in_webhooks_saved_earlier(condition: str, expected: bool) -> None:
    assert holds(condition) is expected


def test_a_decimal_does_not_compare_with_other_text() -> None:
    error = catch_error(partial(holds, "item.total > 'abc'"))
    assert located_message(error) == ("'<' and '>' compare two numbers or two strings", 1, 12)


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{ item.total }} {{ item.total | append: '!' }} {{ item.total | json }}", '350.50 350.50! "350.50"'),
        ("{{ item.total | plus: 1 }} {{ 1 | plus: item.total }} {{ item.total | plus: item.due }}",
         "351.50 351.50 359.50"),
        ("{{ item.total | minus: 0.5 }} {{ item.total | minus: '0.125' }}", "350.00 350.375"),
        ("{{ item.total | times: 2 }} {{ item.total | times: 1.2 }} {{ item.due | times: item.due }}",
         "701.00 420.60 81.00"),
        ("{{ item.total | divided_by: 2 }} {{ item.due | divided_by: 4 }} {{ item.due | divided_by: 0.5 }}",
         "175.25 2.25 18.00"),
        ("{{ 1 | divided_by: item.due }}", "0.1111111111111111111111111111"),
        ("{{ item.total | modulo: 100 }} {{ item.customer.balance | modulo: 1 }}", "50.50 0.90"),
        ("{{ item.total | round }} {{ item.total | round: 1 }} {{ item.total | round: 3 }}", "351 350.5 350.500"),
        ("{{ item.total | round: -2 }}", "400"),
        ("{{ item.total | ceil }} {{ item.total | floor }} {{ item.customer.balance | abs }}", "351 350 0.10"),
        ("{{ item.total | at_least: 400 }} {{ item.total | at_most: 400 }} {{ item.due | at_least: item.total }}",
         "400 350.50 350.50"),
        ("{{ item.items | sum: 'price' }} {{ item.items | map: 'price' | sum }} {{ item.items | sum: 'quantity' }}",
         "29.00 29.00 7"),
        ("{{ item.items | sort: 'price' | map: 'quantity' | join }}", "1 2 4 0"),
        ("{{ item.items | map: 'price' | sort | join: ' ' }}", "9.00 10.00 10.0 "),
        ("{{ item.items | where: 'price', 10 | map: 'quantity' | join }}", "2 4"),
        ("{{ item.items | where: 'price', '10.00' | map: 'quantity' | join }}", "2 4"),
        ("{{ item.items | where: 'quantity' | map: 'quantity' | join }}", "1 2 0 4"),
        ("{{ item.items | reject: 'price', 9 | map: 'quantity' | join }}", "2 0 4"),
        ("{{ item.items | find_index: 'price', 10 }} {{ item.items | has: 'price', 11 }}", "1 false"),
        ("{% assign i = item.items | find: 'price', 10 %}{{ i.price }}", "10.00"),
        ("{{ item.items | map: 'price' | uniq | join: ' ' }}", "9.00 10.00 "),
        ("{{ item.items | sort_natural: 'price' | map: 'price' | join: ' ' }}", "10.0 10.00 9.00 "),
        ("{% for i in item.items %}{{ i.price | times: i.quantity }};{% endfor %}", "9.00;20.00;0;40.0;"),
        ("{% assign top = 0 %}{% for i in item.items %}{% if i.price > top %}{% assign top = i.price %}{% endif %}"
         "{% endfor %}{{ top }}", "10.00"),
        ("{% case item.total %}{% when 350.5 %}a{% endcase %}{% case item.due %}{% when '9' %}b{% endcase %}", "ab"),
        ("{% for i in (1..item.items[0].price) %}{{ i }}{% endfor %}", "123456789"),
        ("{% for i in item.items limit: item.grid[1][0].v %}{{ i.quantity }}{% endfor %}", "12"),
        ("{{ item.grid | map: 'v' | sum }} {{ item['unit price'] | plus: 1 }}", "3.50 2.00"),
        ("{{ item.total.size }} {{ item.total | size }} {{ item.total | slice: 0, 3 }}", "6 6 350"),
        ("{{ item.total | split: '.' | last }}", "50"),
        ("{% assign x = item.total | default: 0 %}{{ x | plus: 1 }} {{ item.items[2].price | default: 0 | plus: 1 }}",
         "351.50 1"),
        ("{% for item in item.items %}{% if item.price > 9 %}{{ item.price }}{% endif %}{% endfor %}", "10.0010.0"),
        ("{% assign k = 'total' %}{{ item[k] | plus: 1 }}", "351.50"),
        ("{{ item.undeclared | plus: 1 }}", "8.0"),
    ],
)  # fmt: skip
def test_a_decimal_computes_as_a_decimal_and_prints_as_stored(source: str, text: str) -> None:
    assert render(source) == text


def test_a_number_of_a_declared_model_computes_as_a_decimal_and_stays_a_number_in_json() -> None:
    assert render("{{ item.rate }} {{ item.rate | divided_by: 2 }} {{ item.rate | times: 0.1 | json }}") == "5 2.5 0.5"
    assert render("{{ item.rate | json }}{{ item.items[item.rate] | json }}", {**ITEM, "rate": 1}).startswith(
        '1{"price"'
    )


@pytest.mark.parametrize(
    ("rate", "call", "text", "in_json"),
    [
        (9007199254740993, "times: 1.0", "9007199254740993.0", "9007199254740992.0"),
        (9007199254740993, "plus: 0.5", "9007199254740993.5", "9007199254740994.0"),
        (9007199254740993, "plus: 1", "9007199254740994", "9007199254740994"),
        (0.1, "times: 0.0001", "0.00001", "1e-05"),
        (2.5, "round: 2", "2.50", "2.5"),
    ],
)
def test_a_computed_number_is_a_float_in_json_only(rate: float, call: str, text: str, in_json: str) -> None:
    assert render(f"{{{{ item.rate | {call} }}}} {{{{ item.rate | {call} | json }}}}", {"rate": rate}) == (
        f"{text} {in_json}"
    )


def test_the_json_of_an_item_is_that_of_the_snapshot() -> None:
    source = "{% if item.total > 1 and item.items[0].price > 1 and item.rate > 1 %}{{ item | json }}{% endif %}"
    assert json.loads(render(source)) == ITEM


MAPS = DecimalFields(
    {
        "item.prices": "object",
        "item.prices.note": "string",
        "item.prices.*": "decimal",
        "item.rates.*.net": "decimal",
        "item.rates.*.unit": "string",
        "item.lists.*[]": "decimal",
        "item.meta.*": "json",
        "item.name": "string",
        "item.*": "decimal",
    }
)
MAP_ITEM: dict[str, Any] = {
    "prices": {"usd": "350.50", "note": "7", "eur": None},
    "rates": {"usd": {"net": "9.00", "unit": "9.00"}},
    "lists": {"usd": ["9.00", "10.00"]},
    "meta": {"a": "9.00"},
    "name": "9.00",
    "extra": "10.00",
}


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("item.prices.usd > 99", True),
        ("item.prices['usd'] == 350.5", True),
        ("item.prices.note == 7", False),
        ("item.rates.usd.net < 10", True),
        ("item.rates.usd.unit == 9", False),
        ("item.lists.usd[1] > 9", True),
        ("item.meta.a == 9", False),
        ("item.name == 9", False),
        ("item.extra > 9 and item.none == nil", True),
    ],
)
def test_the_decimals_of_maps(condition: str, expected: bool) -> None:
    names = build_scope(MAP_ITEM, EVENT)
    before = json.dumps(names)

    assert compile_condition(condition).holds(names, MAPS) is expected
    assert json.dumps(names) == before


@pytest.mark.parametrize(
    ("price", "condition"), [("350.50", "item.price > 99"), ("on request", "item.price == 'on request'")]
)
def test_a_field_that_is_a_decimal_or_other_text(price: str, condition: str) -> None:
    fields = DecimalFields({"item.price": "decimal or string"})
    assert compile_condition(condition).holds(build_scope({"price": price}, EVENT), fields)


def test_the_fields_of_a_map_keep_their_order() -> None:
    source = "{{ item.prices | json }}{% for pair in item.prices %}{{ pair[1] | plus: 1 }};{% endfor %}"
    rendered = compile_template(source).render(build_scope(MAP_ITEM, EVENT), MAPS)
    assert rendered == '{"usd":"350.50","note":"7","eur":null}351.50;8;1;'


@pytest.mark.parametrize(
    ("types", "expected"), [({"item.a.*": "json", "item.b": "id"}, False), ({"item.*": "float"}, True)]
)
def test_a_model_has_decimals_or_not(types: dict[str, str], expected: bool) -> None:
    assert bool(DecimalFields(types)) is expected


def test_a_computed_decimal_is_text_in_json() -> None:
    assert render("{{ item.total | plus: 1 | json }}") == '"351.50"'


@pytest.mark.parametrize(
    "value", ["abc", "", " 1", "1_000", "1,5", "NaN", "Infinity", "1e999", "９", "1" * 301, True, [], {}]
)
def test_a_value_that_is_not_a_decimal_stays_what_it_is(value: object) -> None:
    source = "{% if item.total == 0 %}{% endif %}{{ item.total | json }}"

    assert json.loads(render(source, {"total": value})) == value


def test_the_scope_is_not_changed() -> None:
    names = build_scope(ITEM, EVENT)
    before = json.dumps(names)

    compile_template("{{ item.items | sort: 'price' | size }}{{ item.total | plus: 1 }}").render(names, DECIMALS)

    assert json.dumps(names) == before


TINY = f"'0.{'0' * 98}1'"
HUGE = f"'1{'0' * 99}'"


@pytest.mark.parametrize(
    "source",
    [
        "{% assign x = item.total %}{% for i in (1..3000) %}{% assign x = x | times: item.total %}{% endfor %}{{ x }}",
        f"{{% assign x = item.total | divided_by: {TINY} | times: {HUGE} | divided_by: {TINY} | times: {HUGE}"
        f" | times: {HUGE} | times: {HUGE} | times: {HUGE} %}}{{{{ x }}}}",
    ],
)
def test_a_number_does_not_grow_without_limit(source: str) -> None:
    assert (
        located_message(catch_error(partial(render, source)))[0] == "The number that this filter returns is too large"
    )


def test_a_number_does_not_shrink_without_limit() -> None:
    source = "{% assign x = item.due %}{% for i in (1..300) %}{% assign x = x | times: 0.01 %}{% endfor %}{{ x }}"
    assert len(render(source)) <= 102


@pytest.mark.measures_cpu
@pytest.mark.parametrize("call", ["sort: 'p' | size", "sum: 'p'", "map: 'p' | uniq | size", "where: 'p', 5 | size"])
def test_no_filter_of_many_decimals_takes_longer_than_a_render_may(call: str) -> None:
    rows = [{"p": f"{number * 7919 % 9973}.50"} for number in range(9_999)]
    fields = DecimalFields({"item.rows[].p": "decimal"})
    names = fields.convert(build_scope({"rows": rows}, EVENT), ALL_FIELDS, Meter(limit_ms=1_000))
    template = compile_template(f"{{{{ item.rows | {call} }}}}")

    seconds = []
    for _ in range(3):
        started = thread_time()
        template.render(names)
        seconds.append(thread_time() - started)

    assert min(seconds) < RENDER_BUDGET_MS / 1000


decimals = st.decimals(allow_nan=False, allow_infinity=False, places=2, min_value=-(10**9), max_value=10**9)
filters = st.sampled_from(["plus", "minus", "times"])
OPERATIONS = {"plus": Decimal.__add__, "minus": Decimal.__sub__, "times": Decimal.__mul__}


@unhurried
@given(decimals, decimals, filters)
def test_arithmetic_is_exact(left: Decimal, right: Decimal, name: str) -> None:
    result = render(f"{{{{ item.total | {name}: item.due }}}}", {"total": str(left), "due": str(right)})

    assert Decimal(result) == OPERATIONS[name](left, right)
    assert len(result.partition(".")[2]) >= 2


@unhurried
@given(decimals, decimals)
def test_a_remainder_has_the_sign_of_the_divisor(left: Decimal, right: Decimal) -> None:
    if not right:
        return

    remainder = Decimal(render("{{ item.total | modulo: item.due }}", {"total": str(left), "due": str(right)}))

    assert (left - remainder) % right == 0
    assert abs(remainder) < abs(right)
    assert remainder * right >= 0


@unhurried
@given(decimals, decimals, st.sampled_from(["<", "<=", ">", ">=", "==", "!="]))
def test_order_is_that_of_the_numbers(left: Decimal, right: Decimal, operator: str) -> None:
    item = {"total": str(left), "due": str(right)}
    literal = right if right >= 0 else str(right)

    expected = eval(f"left {operator} right", {"left": left, "right": right})

    assert holds(f"item.total {operator} item.due", item) is expected
    assert holds(f"item.total {operator} {literal}", item) is expected
    assert holds(f"item.total {operator} '{right}'", item) is expected


@unhurried
@given(decimals, st.integers(-3, 4))
def test_halves_are_rounded_away_from_zero(number: Decimal, places: int) -> None:
    step = Decimal(1).scaleb(-places)
    doubled = abs(number) / step * 2
    expected = ((doubled + 1) // 2) * step * (-1 if number < 0 else 1)

    for source in (f"{{{{ item.total | round: {places} }}}}", f"{{{{ '{number}' | round: {places} }}}}"):
        assert Decimal(render(source, {"total": str(number)})) == expected


@unhurried
@given(st.text(max_size=8) | st.from_regex(r"[-+]?[0-9]*\.?[0-9]*([eE][-+]?[0-9]{1,3})?", fullmatch=True))
def test_text_prints_as_stored_whether_it_is_a_decimal_or_not(text: str) -> None:
    value = read_decimal(text)

    assert str(value) == text
    assert (value == text) is True
    assert not isinstance(value, DecimalValue) or value.is_finite()
