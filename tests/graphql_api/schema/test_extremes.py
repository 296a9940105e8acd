"""Extreme input gives data, an InputError or a declared error, never INTERNAL."""

from typing import Any

import orjson
import pytest
from graphql import (
    GraphQLEnumType,
    GraphQLInputObjectType,
    GraphQLList,
    GraphQLNonNull,
    build_schema,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ringback.graphql_api.schema.build import sdl
from ringback.models.ids import Prefix
from tests.support.api import Api

SCHEMA = build_schema(sdl())
UNKNOWN = "01h455vb4pex5vsknk084sn02q"
TEXTS = st.one_of(
    st.sampled_from([
        "", " ", "\0", "\ud800", "\r\n", "x" * 70_000, "{{ item.id }}", "{{", "{%", "https://hooks.example/", "http://[::1]/",

        "lead", "customer_order", "item.id", "%", "\u2028", "text/plain", "whsec_" + "A" * 32, "a@b", "e\u0301" * 200,
    ]),
    st.text(max_size=20),
)  # fmt: skip
#: Values that the GraphQL types accept; below are those that they refuse.
INTS = [-(2**31), -1, 0, 1, 20, 200, 2**31 - 1]
FLOATS = [0.1, 3, 30, -0.0, 5e-324, 1e308]
DECIMALS = ["0", "1.00", "-0", "1e400", "1e-400", "1e9999", "9" * 40, 7]
MOMENTS = ["2026-01-31T12:00:00Z", "9999-12-31T23:59:59.999999Z", "0001-01-01T00:00:00Z"]
REFUSED_INTS = [2**31, -(2**63), 10**400, 1.5, "1", True]
REFUSED_FLOATS = [float("nan"), float("inf"), 10**400, "x"]
REFUSED_DECIMALS = ["NaN", "Infinity", "\ud800", "1_0", "1e99999", 2**70, 1.5, None]
REFUSED_MOMENTS = ["0001-01-01T00:00:00+23:59", "x", "\0", "\ud800", 1]


def scalars(*, tame: bool) -> dict[str, st.SearchStrategy[Any]]:
    leaves = [st.none(), st.booleans(), st.text(max_size=9), st.integers(-(2**63), 2**63 - 1), st.floats(-1e308, 1e308)]
    if not tame:
        leaves += [TEXTS, st.integers(), st.floats()]
    return {
        "String": TEXTS,
        "ID": st.one_of(TEXTS, st.sampled_from([f"{p}_{UNKNOWN}" for p in Prefix])),
        "Int": st.sampled_from(INTS if tame else INTS + REFUSED_INTS),
        "Float": st.sampled_from(FLOATS if tame else FLOATS + REFUSED_FLOATS),
        "Boolean": st.booleans(),
        "Decimal": st.sampled_from(DECIMALS if tame else DECIMALS + REFUSED_DECIMALS),
        "DateTime": st.sampled_from(MOMENTS if tame else MOMENTS + REFUSED_MOMENTS),
        "JSON": st.recursive(
            st.one_of(leaves), lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXTS, inner, max_size=2)
        ),
    }


def values_of(type_: Any, *, tame: bool) -> st.SearchStrategy[Any]:
    """Draw mostly extreme values of a GraphQL type. Unless `tame`, some are not of the type."""
    if isinstance(type_, GraphQLNonNull):
        return _of(type_.of_type, tame=tame)
    return st.none() | _of(type_, tame=tame)


def _of(type_: Any, *, tame: bool) -> st.SearchStrategy[Any]:
    if isinstance(type_, GraphQLList):
        return st.lists(values_of(type_.of_type, tame=tame), max_size=3)
    if isinstance(type_, GraphQLEnumType):
        return st.sampled_from(sorted(type_.values))
    if isinstance(type_, GraphQLInputObjectType):
        return some_of(type_.fields, tame=tame)
    return scalars(tame=tame)[type_.name]


def some_of(fields: dict[str, Any], *, tame: bool) -> st.SearchStrategy[dict[str, Any]]:
    """Draw values for all required fields, and for some of the others."""
    values = {name: values_of(field.type, tame=tame) for name, field in fields.items()}
    required = {name for name, field in fields.items() if isinstance(field.type, GraphQLNonNull)}
    optional = {name: values[name] for name in values if name not in required}
    return st.fixed_dictionaries({name: values[name] for name in values if name in required}, optional=optional)


def document(root: str, name: str, field: Any) -> str:
    declared = ", ".join(f"${arg}: {a.type}" for arg, a in field.args.items())
    passed = ", ".join(f"{arg}: ${arg}" for arg in field.args)
    selection = "errors { code field message }" if root == "mutation" else "__typename"
    return f"{root}({declared}) {{ {name}({passed}) {{ {selection} }} }}"


CASES = [
    pytest.param(document(root, name, field), field, id=name)
    for root, type_ in (("mutation", SCHEMA.mutation_type), ("query", SCHEMA.query_type))
    for name, field in (type_.fields if type_ else {}).items()
    if field.args
]


@pytest.mark.parametrize(("text", "field"), CASES)
async def test_no_input_causes_an_internal_error(api: Api, text: str, field: Any) -> None:
    examples: list[dict[str, Any]] = []

    # The examples are drawn first: they are run on this test's own loop and database.
    @settings(max_examples=30, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(some_of(field.args, tame=True) | some_of(field.args, tame=False))
    def draw(variables: dict[str, Any]) -> None:
        examples.append(variables)

    draw()
    for variables in examples:
        result = await api.execute(text, **variables)
        codes = [(error.extensions or {}).get("code") for error in result.errors]
        assert set(codes) <= {"BAD_USER_INPUT", "GRAPHQL_VALIDATION_FAILED"}, (variables, result.errors)
        for payload in (result.data or {}).values():
            for error in (payload or {}).get("errors", ()):
                orjson.dumps(error)  # raises TypeError for text that cannot be sent
