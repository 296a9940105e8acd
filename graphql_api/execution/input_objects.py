"""Fast construction of input objects from coerced values: one call of `publishChanges` takes hundreds of them.

Strawberry looks up the name and type of each field again for each object. Here that is done once per input type. Fields
other than scalars, enums and lists of them are still converted by Strawberry.
"""

from collections.abc import Callable, Mapping
from dataclasses import MISSING
from typing import Any, NamedTuple, TypeAlias

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

#: Converts the coerced value of a field to the value that its class takes.
Convert: TypeAlias = Callable[[Any, InputContext], Any]


class _InputField(NamedTuple):
    """A field of an input type."""

    graphql_name: str
    python_name: str
    #: None if the coerced value needs no conversion.
    convert: Convert | None


def speed_up_input_objects(schema: strawberry.Schema) -> None:
    """Replace the constructors of the schema's input objects by fast ones."""
    for type_ in core_schema(schema).type_map.values():
        definition = type_.extensions.get("strawberry-definition")
        if is_input_object_type(type_) and isinstance(definition, StrawberryObjectDefinition):
            definition.from_input = _make_constructor(schema, definition)


def _make_constructor(
    schema: strawberry.Schema, definition: StrawberryObjectDefinition
) -> Callable[[type, Mapping[str, Any], InputContext], Any]:
    fields: list[_InputField] = []
    required: dict[str, Any] = {}
    for field in definition.fields:
        name = schema.config.name_converter.from_field(field)
        convert = _make_conversion(schema, field.resolve_type(type_definition=definition), name)
        fields.append(_InputField(name, field.python_name, convert))
        if field.default_value is MISSING and field.default_factory is MISSING:
            required[field.python_name] = None

    def construct(class_: type, value: Mapping[str, Any], context: InputContext) -> Any:
        arguments = dict(required)
        for name, attribute, convert in fields:
            if name in value:
                arguments[attribute] = value[name] if convert is None else convert(value[name], context)
        return class_(**arguments)

    return construct


def _make_conversion(schema: strawberry.Schema, type_: StrawberryType | type, name: str) -> Convert | None:
    inner = _strip_optional(type_)
    if _is_leaf(schema, inner):
        return None
    if isinstance(inner, StrawberryList) and _is_leaf(schema, _strip_optional(inner.of_type)):
        return _copy_list
    return lambda value, context: context.convert(value, type_, name)


def _copy_list(value: Any, _: InputContext) -> Any:
    """Copy a list, because graphql-core passes the same default list to every object that omits the field."""
    if value is None or value is UNSET:
        return value
    return list(value)


def _strip_optional(type_: StrawberryType | type) -> StrawberryType | type:
    return type_.of_type if isinstance(type_, StrawberryOptional) else type_


def _is_leaf(schema: strawberry.Schema, type_: Any) -> bool:
    if has_object_definition(type_) or isinstance(type_, StrawberryList):
        return False
    return isinstance(type_, StrawberryEnumDefinition) or is_scalar(type_, schema.schema_converter.scalar_registry)
