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
    "item.customer": "object",
    "item.customer.name": "string",
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
        ("item.items.size > '3'",
         'The number item.items.size is compared with the text "3". Write 3 without quotes', 19),
        ("item.name.size == '2'",
         'The number item.name.size is compared with the text "2". Write 2 without quotes', 19),
        ("event.changed_fields.size > '1'",
         'The number event.changed_fields.size is compared with the text "1". Write 1 without quotes', 29),
        ("1 < '5'", 'The number 1 is compared with the text "5". Write 5 without quotes', 5),
        ("'1' == 1", 'The number 1 is compared with the text "1". Write 1 without quotes', 8),
        ("item.total > true",
         "The number item.total is compared with the boolean true. Compare it with a number, such as 1000", 14),
        ("false <= item.rate",
         "The number item.rate is compared with the boolean false. Compare it with a number, such as 1000", 1),
        ("item.paid < item.total",
         "The boolean item.paid is compared with the number item.total. Compare two numbers or two texts", 1),
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
        ("{% case item.items.size %}{% when '2' %}{% endcase %}",
         'The number item.items.size is compared with the text "2". Write 2 without quotes', 35),
        ("{% for i in item.tags %}{% if forloop.index == '1' %}{% endif %}{% endfor %}",
         'The number forloop.index is compared with the text "1". Write 1 without quotes', 48),
        ("{% assign q = item.total %}{% if q > '3' %}{% endif %}",
         'The number q is compared with the text "3". Write 3 without quotes', 38),
        ("{% for i in item.items %}{% assign q = i.quantity %}{% if q > '3' %}{% endif %}{% endfor %}",
         'The number q is compared with the text "3". Write 3 without quotes', 63),
        ("{% assign q = item.name | size | plus: 1 %}{% unless q == '3' %}{% endunless %}",
         'The number q is compared with the text "3". Write 3 without quotes', 59),
        ("{% assign q = item.total %}{% assign p = q %}{% if p < true %}{% endif %}",
         "The number p is compared with the boolean true. Compare it with a number, such as 1000", 56),
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
        "item.meta == 5 or item.meta.a == '5' or item.items.size > 3",
        "item.customer.size == 'XL' or item.meta.size == 'XL' or item.items[0].size == 'XL' or item.tags.size.a == ''",
        "item.total contains '5' or item.tags contains 5 or item.paid == 5 or item.items == 5",
        "'1' == '1' or 1 < 5 or true == 1 or item.unknown_type == 5",
        "item.seconds > true or item.items[0].quantity > item.paid or item.paid > false or item.paid != item.total",
    ],
)
def test_a_comparison_that_may_be_true_is_accepted(condition: str) -> None:
    assert check_condition(condition, fields=[*FIELDS, "item.unknown_type"], types=TYPES) == []


@pytest.mark.parametrize(
    "source",
    [
        "{% assign q = item.total %}{% assign q = item.name %}{% if q > '3' %}{% endif %}",
        "{% assign q = item.total %}{% capture q %}5{% endcapture %}{% if q == '5' %}{% endif %}",
        "{% assign q = item.total | append: '' %}{% if q > '3' %}{% endif %}",
        "{% assign q = item.total | default: item.name %}{% if q > '3' %}{% endif %}",
        "{% assign q = item.customer %}{{ q.anything }}{% if q.total > '3' %}{% endif %}",
        "{% for q in item.tags %}{% assign q = item.total %}{% if q > '3' %}{% endif %}{% endfor %}",
        "{% for q in item.meta.rows %}{% assign q = item.total %}{% if q > '3' %}{% endif %}{% endfor %}",
        "{% for i in item.tags %}{% if forloop.parentloop.index == '1' %}{% endif %}{% endfor %}",
    ],
)
def test_a_name_that_may_hold_another_value_is_accepted(source: str) -> None:
    assert check_template(source, fields=FIELDS, types=TYPES, sample={}) == []


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
