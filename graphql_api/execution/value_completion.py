"""Value completion: one function per type that turns a resolved value into its response value.

The functions do for valid values what graphql-core does for each value of each field (GraphQL specification, 6.4.3).
For any other value they raise, usually `InvalidValue`; then graphql-core completes the value and reports the error.
"""

from collections.abc import Callable
from enum import Enum
from typing import Any, TypeAlias

from graphql import GraphQLEnumType, Undefined
from graphql.type import GraphQLID, GraphQLString, is_leaf_type, is_list_type, is_non_null_type

from ringback.graphql_api.execution.byte_budget import SHORT_CHARS, count_fields, count_json, count_text

Reader: TypeAlias = Callable[[Any], Any]


class InvalidValue(Exception):
    """A value that its GraphQL type does not allow."""


def make_reader(get: Reader, type_: Any, read_object: Reader | None, width: int = 0) -> Reader | None:
    """Return a function that gets a field's value from an object and completes it.

    `read_object` reads objects of the type that `type_` names, which have `width` fields. Return None if there is none
    and one is needed.
    """
    nullable = not is_non_null_type(type_)
    inner = type_ if nullable else type_.of_type
    if inner in (GraphQLString, GraphQLID):
        return _make_text_reader(get, nullable=nullable)
    complete = _make_completion(inner, read_object, width)
    if complete is None:
        return None

    def read(source: Any) -> Any:
        value = get(source)
        if value is None:
            if nullable:
                return None
            raise InvalidValue
        return complete(value)

    return read


def _make_text_reader(get: Reader, *, nullable: bool) -> Reader:
    def read(source: Any) -> Any:
        value = get(source)
        if type(value) is str:
            if len(value) > SHORT_CHARS:
                count_text(value)
            return value
        if value is None and nullable:
            return None
        raise InvalidValue

    return read


def _make_completion(type_: Any, read_object: Reader | None, width: int) -> Reader | None:
    """Return a function that completes values other than None of a type without its non-null wrapper."""
    if is_list_type(type_):
        complete_entry = make_reader(_return_value, type_.of_type, read_object, width)
        return None if complete_entry is None else _make_list_completion(complete_entry, width)
    if isinstance(type_, GraphQLEnumType):
        return _make_enum_completion(type_)
    if is_leaf_type(type_):
        return _make_scalar_completion(type_)
    return read_object


def _return_value(value: Any) -> Any:
    return value


def _make_list_completion(complete_entry: Reader, width: int) -> Reader:
    def complete(values: Any) -> list[Any]:
        if not isinstance(values, list):
            raise InvalidValue
        count_fields(len(values) * width)
        return [complete_entry(value) for value in values]

    return complete


def _make_enum_completion(type_: GraphQLEnumType) -> Reader:
    names: dict[Enum, str] = {}

    def complete(value: Any) -> str:
        name = names.get(value)
        if name is None:
            name = names[value] = type_.coerce_output_value(value)
        return name

    return complete


def _make_scalar_completion(type_: Any) -> Reader:
    coerce = type_.coerce_output_value
    is_json = type_.name == "JSON"

    def complete(value: Any) -> Any:
        coerced = coerce(value)
        if coerced is None or coerced is Undefined:
            raise InvalidValue
        if is_json:
            count_json(coerced)
        return coerced

    return complete
