"""The shape of documents, with fragments spread, and its limits."""

import itertools
from typing import Any

import pytest
from graphql import get_introspection_query, parse

from ringback.graphql_api.errors import ApiError
from ringback.graphql_api.execution.operation_limits import OperationLimits
from ringback.graphql_api.execution.query_shape import MAX_INTROSPECTION_COST, MAX_NESTING, check_shape
from tests.support.hostile_documents import many, net


def over(text: str, **limits: Any) -> tuple[str, int] | None:
    """Return the name and value of the limit that a document exceeds, or None."""
    try:
        check_shape(parse(text), OperationLimits(**limits))
    except ApiError as error:
        extensions = error.extensions or {}
        return extensions["limit"], extensions["allowed"]
    return None


@pytest.mark.parametrize(
    ("text", "depth"),
    [
        ("{ a }", 1),
        ("{ a { b { c } } }", 3),
        ("{ a { b } c { d { e } } }", 3),
        ("{ ... { a { ... on T { b } } } }", 2),
        ("{ a { ...F } } fragment F on T { b { c } }", 3),
        ("{ ...F } fragment F on T { a { ...G } } fragment G on T { b { c } }", 3),
        ("{ a } fragment Unused on T { a { b { c { d } } } }", 4),
        ("{ a } query B { a { b } }", 2),
    ],
)
def test_depth_counts_levels_of_fields(text: str, depth: int) -> None:
    assert over(text, depth=depth) is None
    assert over(text, depth=depth - 1) == ("depth", depth - 1)


@pytest.mark.parametrize(
    ("text", "aliases"),
    [
        ("{ a: x }", 1),
        ("{ a: x b: x { c: x } }", 3),
        ("{ x { ...F y { ...F } } } fragment F on T { a: x b: x }", 4),
        ("{ ... { a: x } ... { b: x } }", 2),
        ("{ a: x } query B { b: x }", 1),
    ],
)
def test_aliases_count_wherever_they_are_spread(text: str, aliases: int) -> None:
    assert over(text, aliases=aliases) is None
    assert over(text, aliases=aliases - 1) == ("aliases", aliases - 1)


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("{ a b c { d e f } }", 3),
        ("{ a ...F ... { b } } fragment F on Query { c d { e f } }", 4),
        ("query A { a } query B { a b }", 2),
        ("{ a { ...F } } fragment F on T { b c d e }", 1),
    ],
)
def test_root_fields_count_in_operations_only(text: str, fields: int) -> None:
    assert over(text, root_fields=fields) is None
    assert over(text, root_fields=fields - 1) == ("rootFields", fields - 1)


def test_fragments_that_double_at_each_level_are_multiplied() -> None:
    message = r"has at least 1,000,000,000 root fields; 50 are allowed \(RINGBACK_API_MAX_ROOT_FIELDS\)"
    with pytest.raises(ApiError, match=message):
        check_shape(parse(net(60, 2)), OperationLimits())


@pytest.mark.parametrize(
    "text", ["{ ...F } fragment F on T { ...F }", "{ ...A } fragment A on T { ...B } fragment B on T { ...A }"]
)
def test_cycles_of_fragments_are_left_to_validation(text: str) -> None:
    assert over(text) is None


def test_unknown_fragments_are_left_to_validation() -> None:
    assert over("{ ...Nowhere }") is None


def test_nesting_is_limited_without_fields_too() -> None:
    # The operation, each fragment, and the field in the last one are a level each.
    assert over(net(MAX_NESTING - 2, 1)) is None
    assert over(net(MAX_NESTING - 1, 1)) == ("depth", 20)


OPTIONS = ("specified_by_url", "directive_is_repeatable", "schema_description", "input_value_deprecation", "one_of")


@pytest.mark.parametrize("on", list(itertools.product([False, True], repeat=2)))
def test_the_introspection_of_clients_passes_at_the_lowest_depth_setting(on: tuple[bool, bool]) -> None:
    """GraphiQL, Apollo, graphql-codegen and Insomnia send this query of graphql-js, with various options."""
    descriptions, others = on
    text = get_introspection_query(descriptions, **dict.fromkeys(OPTIONS, others), type_depth=9)
    assert over(text, depth=15, aliases=0, root_fields=1) is None
    assert over(text, depth=14) == ("depth", 14)


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        ("{ a: __schema { types { name } } b: __schema { types { name } } }", True),
        ("{ a: __schema { types { name } } b: __schema { types { name } } c: __type { name } }", False),
        ("{ " + many(20, 'a%d: __type(name: "Event") { name }') + " }", True),
        ("{ " + many(21, 'a%d: __type(name: "Event") { name }') + " }", False),
        ("{ __schema { types { a: name } } }", True),
        ("{ __schema { types { a: name b: name } } }", False),
        ("{ __schema { types { ...F } directives { ...F } } } fragment F on X { a: name }", False),
        ("{ schema { types { a: name b: name } } }", True),
        ("query A { __schema { types { name } } } query B { __schema { types { name } } __type { name } }", True),
    ],
)
def test_an_introspection_field_has_a_fixed_cost_which_aliases_inside_multiply(text: str, allowed: bool) -> None:
    expected = None if allowed else ("introspection", MAX_INTROSPECTION_COST)

    assert over(text) == expected
