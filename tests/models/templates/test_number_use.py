"""Only the fields that a template uses as numbers are converted, and the output is the same as if all were."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringback.models.errors import TemplateError
from ringback.models.templates.budget import Meter
from ringback.models.templates.decimal_fields import ALL_FIELDS, DecimalFields
from ringback.models.templates.number_use import find_number_fields, find_number_fields_of
from ringback.models.templates.scope import build_scope
from ringback.models.templates.syntax.parser import parse_condition, parse_template
from ringback.models.templates.template import compile_template
from tests.support.templates import EVENT
from tests.support.unhurried import unhurried

TYPES = {"item.total": "decimal", "item.due": "decimal", "item.items[].price": "decimal", "item.rate": "float"}
DECIMALS = DecimalFields(TYPES)
ITEM = {
    "total": "12.50",
    "due": "9.00",
    "rate": 2,
    "name": "1.0",
    "items": [{"price": "10.00", "n": 1}, {"price": "9.0", "n": 2}, {"price": "9.00", "n": 3}, {"price": None, "n": 4}],
}


@pytest.mark.parametrize(
    ("source", "fields"),
    [
        ("{{ item.total }}{{ item.total | append: item.due | upcase }}{{ item | json }}", set()),
        ("{% for i in item.items %}{{ i.price | url_encode }}{% endfor %}{% if item.total %}{% endif %}", set()),
        ("{% if event.changed_fields contains 'total' and forloop.first == 1 %}{{ item.total }}{% endif %}", set()),
        ("{{ item.total | plus: item.due }}{{ item.name }}", {"total", "due"}),
        ("{% for i in item.items %}{{ i.price | plus: 1 }}{% endfor %}{{ item.total }}", {"items"}),
        ("{% assign x = item.total %}{% if x > 5 %}{% endif %}", {"total"}),
        ("{% for i in item.items limit: item.rate %}{% endfor %}", {"rate"}),
        ("{% case item.total %}{% when item.due %}{% endcase %}", {"total", "due"}),
        ("{{ item.items[item.rate].price }}{% for i in (1..item.due) %}{% endfor %}", {"rate", "due"}),
        ("{{ item['total'] | round }}", {"total"}),
        ("{{ item[item.name] | round }}", ALL_FIELDS),
        ("{% for item in item.items %}{{ item.price | round }}{% endfor %}", ALL_FIELDS),
        ("{% assign event = item.total %}{% if event > 5 %}{% endif %}", {"total"}),
    ],
)
def test_the_fields_that_a_template_uses_as_numbers(source: str, fields: set[str]) -> None:
    assert find_number_fields(parse_template(source).nodes) == fields


def test_the_fields_that_a_condition_uses_as_numbers() -> None:
    condition = parse_condition("item.total > 5 and item.due or event.changed_fields contains 'due'")
    assert find_number_fields_of(condition) == {"total"}


PATHS = """
    item.total item.due item.rate item.name item['due'] item[k] item.items[0].price item.items.last.price
    item.items item item.items[item.rate].price i i.price x y event.action 5 '9'
"""
CALLS = """
    plus: {}; times: {}; append: {}; default: {}; at_least: {}; slice: {}; where: 'price', {}; has: 'price', {};
    find: 'price', 9; sort: 'price'; sort_natural: 'price'; map: 'price'; sum: 'price'; concat: item.items; join: ' ';
    date: '%Y'; round; abs; json; size; first; last; uniq; compact; reverse; split: '.'; truncate: 4
"""
paths = st.sampled_from(PATHS.split())
calls = st.sampled_from(CALLS.split(";"))
chains = st.builds(
    lambda path, filters: " | ".join([path, *filters]),
    paths,
    st.lists(st.builds(lambda call, path: call.format(path), calls, paths), max_size=3),
)
tests = st.builds(
    "{} {} {}".format, paths, st.sampled_from(["==", "!=", "<", ">", "<=", ">=", "contains"]), paths
) | st.builds("{} and {}".format, paths, paths)
pieces = st.recursive(
    st.builds("{{{{ {} }}}};".format, chains)
    | st.builds("{{% assign {} = {} %}}".format, st.sampled_from("xyki"), chains)
    | st.builds("{{% cycle {}, {} %}}".format, paths, paths),
    lambda inner: (
        st.builds("{{% if {} %}}{}{{% endif %}}".format, tests, inner)
        | st.builds("{{% for {} in {} %}}{}{{% endfor %}}".format, st.sampled_from(["i", "item", "x"]), paths, inner)
        | st.builds("{{% for i in (1..{}) limit: {} %}}{}{{% endfor %}}".format, paths, paths, inner)
        | st.builds("{{% case {} %}}{{% when {} %}}{}{{% endcase %}}".format, paths, paths, inner)
        | st.builds("{{% capture x %}}{}{{% endcapture %}}".format, inner)
        | st.builds("{}{}".format, inner, inner)
    ),
    max_leaves=5,
)


@unhurried
@given(pieces)
def test_the_output_is_the_same_as_with_all_decimals_converted(source: str) -> None:
    names = build_scope(ITEM, EVENT)
    try:
        template = compile_template("{% assign k = 'total' %}" + source)
    except TemplateError:
        return

    outputs = []
    for converted in (names, DECIMALS.convert(names, ALL_FIELDS, Meter())):
        try:
            outputs.append(template.render(converted, DECIMALS))
        except TemplateError as error:
            outputs.append(str(error))

    assert outputs[0] == outputs[1]
