"""Input objects from coerced values, quickly: `publishChanges` takes hundreds of them in a call.

Strawberry looks up the name and the type of each field anew for each object. Here that is done once for each input
type; what is neither a scalar, an enum nor a list of such still goes Strawberry's way.
"""

from collections.abc import Callable, Mapping
from dataclasses import MISSING
from typing import Any, TypeAlias

import strawberry
from graphql import is_input_object_type
from strawberry import UNSET
from strawberry.scalars import is_scalar
from strawberry.types.arguments import InputContext
from strawberry.types.base import (
    StrawberryList,
    StrawberryObjectDefinition,
    StrawberryOptional,
    StrawberryType,
    has_object_definition,
)
from strawberry.types.enum import StrawberryEnumDefinition

from ringback.graphql_api.fields.core_schema import core_schema

#: The value of a field as its class takes it, from the coerced one; None where they are the same.
Convert: TypeAlias = Callable[[Any, InputContext], Any] | None


def speed_up_input_objects(schema: strawberry.Schema) -> None:
    """Have the schema's input objects made this way."""
    for kind in core_schema(schema).type_map.values():
        definition = kind.extensions.get("strawberry-definition")
        if is_input_object_type(kind) and isinstance(definition, StrawberryObjectDefinition):
            definition.from_input = _maker(schema, definition)


def _maker(
    schema: strawberry.Schema, definition: StrawberryObjectDefinition
) -> Callable[[type, Mapping[str, Any], InputContext], Any]:
    named = [(schema.config.name_converter.from_field(field), field) for field in definition.fields]
    fields = [
        (name, field.python_name, _convert(schema, field.resolve_type(type_definition=definition), name))
        for name, field in named
    ]
    required = {f.python_name: None for f in definition.fields if f.default_value is f.default_factory is MISSING}

    def make(kind: type, value: Mapping[str, Any], context: InputContext) -> Any:
        made = dict[str, Any](required)
        for name, attribute, convert in fields:
            if name in value:
                made[attribute] = value[name] if convert is None else convert(value[name], context)
        return kind(**made)

    return make


def _convert(schema: strawberry.Schema, kind: StrawberryType | type, name: str) -> Convert:
    inner = kind.of_type if isinstance(kind, StrawberryOptional) else kind
    if _is_leaf(schema, inner):
        return None
    if isinstance(inner, StrawberryList):
        entry = inner.of_type.of_type if isinstance(inner.of_type, StrawberryOptional) else inner.of_type
        if _is_leaf(schema, entry):
            # A copy: graphql-core gives one default to all who leave the field out.
            return lambda value, _: value if value is None or value is UNSET else list(value)
    return lambda value, context: context.convert(value, kind, name)


def _is_leaf(schema: strawberry.Schema, kind: Any) -> bool:
    if has_object_definition(kind) or isinstance(kind, StrawberryList):
        return False
    return isinstance(kind, StrawberryEnumDefinition) or is_scalar(kind, schema.schema_converter.scalar_registry)
