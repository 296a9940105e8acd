"""Comparisons of a number with text are refused when a webhook is saved, with what to write instead."""

import pytest

from ringback.models.templates.decimal_fields import DecimalFields
from ringback.models.templates.scope import build_scope
from ringback.models.templates.template import compile_condition
from ringback.models.templates.validation import check_condition, check_template
from tests.support.templates import EVENT, located_message

TYPES = {
    "item.id": "id",
    "item.name": "string",
    "item.total": "decimal",
    "item.rate": "float",
    "item.seconds": "seconds",
    "item.at": "datetime",
    "item.paid": "boolean",
    "item.meta": "json",
    "item.items": "list",
    "item.items[].price": "decimal",
    "item.items[].quantity": "integer",
    "item.tags": "list",
    "item.tags[]": "string",
}
FIELDS = [*TYPES, "item.meta.*"]


@pytest.mark.parametrize(
    ("condition", "message", "column"),
    [
        ("item.total > '1000'",
         'The number item.total is compared with the text "1000". Write 1000 without quotes', 14),
        ("item.total == ' +1000.50 '",
         'The number item.total is compared with the text " +1000.50 ". Write 1000.50 without quotes', 15),
        ("'10' != item.total", 'The number item.total is compared with the text "10". Write 10 without quotes', 1),
        ("item.total > 'abc'",
         'The number item.total is compared with the text "abc". Compare it with a number, such as 1000', 14),
        ("item.total <= ''",
         'The number item.total is compared with the text "". Compare it with a number, such as 1000', 15),
        ("item.rate < '5'", 'The number item.rate is compared with the text "5". Write 5 without quotes', 13),
        ("item.seconds >= '5'", 'The number item.seconds is compared with the text "5". Write 5 without quotes', 17),
        ("item.items[0].quantity == '5'",
         'The number item.items[0].quantity is compared with the text "5". Write 5 without quotes', 27),
        ("item.name > 5", 'The text item.name is compared with the number 5. Write "5" in quotes', 13),
        ("1.5 == item.tags[0]", 'The text item.tags[0] is compared with the number 1.5. Write "1.5" in quotes', 1),
        ("item.id == 1", 'The text item.id is compared with the number 1. Write "1" in quotes', 12),
        ("item.at > 2026", 'The text item.at is compared with the number 2026. Write "2026" in quotes', 11),
        ("event.created_at < 5", 'The text event.created_at is compared with the number 5. Write "5" in quotes', 20),
        ("item.paid and item.name == item.total",
         "The text item.name is compared with the number item.total. Compare two numbers or two texts", 15),
    ],
)  # fmt: skip
def test_a_mixed_comparison_is_refused(condition: str, message: str, column: int) -> None:
    errors = check_condition(condition, fields=FIELDS, types=TYPES)
    assert [located_message(error) for error in errors] == [(message, 1, column)]


@pytest.mark.parametrize(
    ("source", "message", "column"),
    [
        ("{% for i in item.items %}{% if i.price > '5' %}{% endif %}{% endfor %}",
         'The number i.price is compared with the text "5". Write 5 without quotes', 42),
        ("{% case item.total %}{% when 1, '5' %}{% endcase %}",
         'The number item.total is compared with the text "5". Write 5 without quotes', 33),
        ("{% unless item.name == 5 %}{% elsif item.name == 5 %}{% endunless %}",
         'The text item.name is compared with the number 5. Write "5" in quotes', 24),
    ],
)  # fmt: skip
def test_a_mixed_comparison_in_a_template_is_refused(source: str, message: str, column: int) -> None:
    errors = check_template(source, fields=FIELDS, types=TYPES, sample={})
    assert [located_message(error) for error in errors] == [(message, 1, column)]


@pytest.mark.parametrize(
    "condition",
    [
        "item.total > 1000 and item.total != item.rate and item.items[0].quantity < item.total",
        "item.name == '5' and item.id != item.name and item.at > '2026' and event.action == 'created'",
        "item.total == nil or item.total == blank or item.name == empty or item.paid == true or item.total == true",
        "item.meta == 5 or item.meta.a == '5' or item.items.size > 3 or item.name.size > '3'",
        "item.total contains '5' or item.tags contains 5 or item.paid == 5 or item.items == 5",
        "'1' == 1 or item.unknown_type == 5",
    ],
)
def test_a_comparison_that_may_be_true_is_accepted(condition: str) -> None:
    assert check_condition(condition, fields=[*FIELDS, "item.unknown_type"], types=TYPES) == []


@pytest.mark.measures_cpu
def test_the_sample_is_rendered_with_its_decimals() -> None:
    source = "{% for i in (1..item.total) %}{% for j in (1..item.total) %}{% endfor %}{% endfor %}"
    errors = check_template(source, fields=FIELDS, types=TYPES, sample={"total": "200.00"})
    assert [located_message(error)[0] for error in errors] == [
        "The template runs more than 20,000 loop iterations and blocks. Loop over fewer elements"
    ]


@pytest.mark.parametrize(
    "condition", ["item.total > '1000'", "item.total == '1500'", "'1000' < item.total", "item.name == 'a'"]
)
def test_a_condition_saved_earlier_still_runs(condition: str) -> None:
    names = build_scope({"total": "1500.00", "name": "a"}, EVENT)
    assert compile_condition(condition).holds(names, DecimalFields(TYPES)) is True
