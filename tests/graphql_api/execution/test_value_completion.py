"""Completed values equal those of graphql-core. Other values raise."""

import datetime as dt
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from graphql import Executor, GraphQLField, GraphQLList, GraphQLNonNull, GraphQLObjectType, GraphQLSchema, parse
from graphql.type import GraphQLBoolean, GraphQLFloat, GraphQLID, GraphQLInt, GraphQLString

from ringback.graphql_api.execution.byte_budget import OperationBudget, ResponseTooLarge
from ringback.graphql_api.execution.value_completion import InvalidValue, make_reader
from ringback.graphql_api.schema.build import schema
from ringback.models.enums import EventStatus

TYPES: Any = schema._schema.type_map
BUILT_IN = (GraphQLString, GraphQLID, GraphQLBoolean, GraphQLInt, GraphQLFloat)
LEAVES = [*BUILT_IN, *(TYPES[name] for name in ("DateTime", "Decimal", "JSON", "EventStatus"))]
VALUES = [
    None, "", "text", True, False, 0, 1, -(2**31), 2**31, 1.5, float("nan"), Decimal("1.50"), EventStatus.FAILED,
    "FAILED",
    dt.datetime(1, 1, 1, tzinfo=dt.UTC), dt.datetime(2026, 1, 31, 12, tzinfo=dt.timezone(dt.timedelta(hours=3))),
    {"a": [1]}, [], ["a"], [None], [["a"], None], object(),
]  # fmt: skip


def complete_by_graphql_core(kind: Any, value: Any) -> Any:
    """Return (the completed value,), or None if there is an error."""
    query = GraphQLObjectType("Query", {"it": GraphQLField(kind)})
    executor = Executor.build(GraphQLSchema(query), parse("{ it }"), {"it": value})
    assert isinstance(executor, Executor)
    result: Any = executor.execute_operation()
    return None if result.errors else (result.data["it"],)


@pytest.mark.parametrize("leaf", LEAVES, ids=str)
def test_values_of_every_type_complete_as_in_graphql_core_or_raise(leaf: Any) -> None:
    for kind in (leaf, GraphQLNonNull(leaf), GraphQLList(leaf), GraphQLNonNull(GraphQLList(GraphQLNonNull(leaf)))):
        read = make_reader(lambda value: value, kind, None)
        assert read is not None
        for value in VALUES:
            try:
                completed = (read(value),)
            except Exception:
                continue  # then graphql-core completes the value
            assert completed == complete_by_graphql_core(kind, value), (kind, value)
            assert type(completed[0]) is type(complete_by_graphql_core(kind, value)[0])


@pytest.mark.parametrize(
    ("kind", "value", "completed"),
    [
        (GraphQLString, "a", "a"),
        (GraphQLNonNull(GraphQLBoolean), False, False),
        (TYPES["EventStatus"], EventStatus.RETRYING, "RETRYING"),
        (TYPES["DateTime"], VALUES[14], "0001-01-01T00:00:00.000000Z"),
        (TYPES["DateTime"], VALUES[15], "2026-01-31T09:00:00.000000Z"),
        (GraphQLNonNull(GraphQLList(GraphQLInt)), [1, None], [1, None]),
    ],
)
def test_valid_values_are_completed(kind: Any, value: Any, completed: Any) -> None:
    read = make_reader(lambda value: value, kind, None)
    assert read is not None
    assert read(value) == completed


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (GraphQLNonNull(GraphQLString), None), (GraphQLString, 1), (GraphQLNonNull(TYPES["JSON"]), None),
        (GraphQLList(GraphQLNonNull(GraphQLInt)), [None]), (GraphQLList(GraphQLInt), (1,)),
    ],
)  # fmt: skip
def test_invalid_values_raise(kind: Any, value: Any) -> None:
    read = make_reader(lambda value: value, kind, None)
    assert read is not None
    with pytest.raises(InvalidValue):
        read(value)


def test_a_type_whose_objects_have_no_reader_has_none() -> None:
    assert make_reader(lambda value: value, GraphQLNonNull(GraphQLList(TYPES["Event"])), None) is None
    assert make_reader(lambda value: value, TYPES["Node"], None) is None


@pytest.mark.parametrize("kind", [GraphQLString, GraphQLNonNull(GraphQLID)], ids=str)
def test_long_texts_and_ids_count(kind: Any) -> None:
    read = make_reader(lambda value: value, kind, None)
    assert read is not None
    with OperationBudget(1_000, None, UUID(int=1)), pytest.raises(ResponseTooLarge):
        read("x" * 1_001)
