"""Input objects equal those that Strawberry constructs."""

from typing import Any

import pytest
from graphql import GraphQLInputObjectType, coerce_input_value, get_nullable_type
from strawberry.types.arguments import convert_argument

from ringback.graphql_api.schema.build import schema

INPUTS = [kind for kind in schema._schema.type_map.values() if isinstance(kind, GraphQLInputObjectType)]


def sample(kind: Any, *, nulls: bool) -> Any:
    """Return a value of an input type as a client sends it, with null for every nullable type or with no null."""
    if nulls and get_nullable_type(kind) is kind:
        return None
    kind = get_nullable_type(kind)
    if hasattr(kind, "of_type"):
        return [sample(kind.of_type, nulls=nulls)] * 2
    if isinstance(kind, GraphQLInputObjectType):
        return {name: sample(field.type, nulls=nulls) for name, field in kind.fields.items()}
    if hasattr(kind, "values"):
        return next(iter(kind.values))
    samples = {
        "Int": 3,
        "Float": 0.5,
        "Boolean": True,
        "DateTime": "2026-01-31T12:00:00Z",
        "JSON": {"a": [1]},
        "Decimal": "1.50",
    }
    return samples.get(kind.name, "text")


def construct(kind: GraphQLInputObjectType, value: Any) -> Any:
    definition = kind.extensions["strawberry-definition"]
    registry = schema.schema_converter.scalar_registry
    return convert_argument(value, definition.origin, registry, schema.config)


@pytest.mark.parametrize("kind", INPUTS, ids=[kind.name for kind in INPUTS])
def test_input_objects_equal_those_of_strawberry(kind: GraphQLInputObjectType, monkeypatch: pytest.MonkeyPatch) -> None:
    required = {name: f.type for name, f in kind.fields.items() if get_nullable_type(f.type) is not f.type}
    sent = (
        sample(kind, nulls=False),
        {name: sample(field.type, nulls=True) for name, field in kind.fields.items()},
        {name: sample(type_, nulls=False) for name, type_ in required.items()},
    )
    values = [coerce_input_value(value, kind) for value in sent]
    fast = [construct(kind, value) for value in values]
    for other in INPUTS:
        monkeypatch.setattr(other.extensions["strawberry-definition"], "from_input", None)
    assert fast == [construct(kind, value) for value in values]


def test_a_default_list_is_not_shared() -> None:
    (kind,) = (kind for kind in INPUTS if kind.name == "CreateWebhookInput")
    actions = ["CREATED"]
    value = {"model": "lead", "actions": actions, "url": "https://example.com"}
    assert construct(kind, value).actions == actions
    assert construct(kind, value).actions is not actions


def test_every_input_type_has_a_fast_constructor() -> None:
    assert all(kind.extensions["strawberry-definition"].from_input is not None for kind in INPUTS)
