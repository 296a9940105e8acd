"""Limits on variables, looked at before they are coerced: that costs more, and happens before a resolver can refuse.

JSON scalars are left to their own check: a client's objects may be large.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from graphql import (
    GraphQLEnumType,
    GraphQLInputObjectType,
    GraphQLList,
    GraphQLNonNull,
    GraphQLSchema,
    OperationDefinitionNode,
    get_named_type,
    type_from_ast,
)

from ringback.graphql_api.errors import bad_user_input
from ringback.graphql_api.limits import exceeded

#: The longest name of a field or of an enum's value in the variables that is looked at, in characters: graphql-core
#: compares a wrong one with all that are right.
MAX_NAME = 200
#: Entries of all lists in the variables of one request: more than any argument takes.
MAX_ENTRIES = 10_000
#: What an entry that is an object counts for: coercing one takes about as long as so many plain values.
OBJECT_ENTRIES = 10


def check_variables(
    schema: GraphQLSchema, operation: OperationDefinitionNode, variables: Mapping[str, Any] | None
) -> None:
    """Raises ApiError for lists among the variables that are longer than any argument takes, and for unknown fields."""
    if not variables:
        return
    entries = _Entries()
    for definition in operation.variable_definitions or ():
        name = definition.variable.name.value
        if name in variables:
            entries.count(variables[name], type_from_ast(schema, definition.type), f"${name}")


class _Entries:
    """Counts the entries of all lists in the variables of one request."""

    def __init__(self) -> None:
        self._left = MAX_ENTRIES

    def count(self, value: Any, type_: Any, path: str) -> None:
        """Raises ApiError when a value holds too much; what is of another type is left to its coercion."""
        while isinstance(type_, GraphQLNonNull):
            type_ = type_.of_type
        if isinstance(type_, GraphQLList):
            inner, weight = type_.of_type, 1
            if isinstance(get_named_type(inner), GraphQLInputObjectType):
                weight = OBJECT_ENTRIES
            # A value that is no list stands for a list of it (GraphQL specification, 3.11).
            entries = value if isinstance(value, list) else [value]
            allowed = self._left // weight
            if len(entries) > allowed:
                message = f"{path}: has {len(entries):,} entries; {allowed:,} are allowed."
                raise exceeded("listEntries", allowed, message)
            self._left -= len(entries) * weight
            if _is_walked(inner):
                for index, entry in enumerate(entries):
                    self.count(entry, inner, f"{path}[{index}]")
        elif isinstance(type_, GraphQLInputObjectType) and isinstance(value, dict):
            if len(value) > len(type_.fields) or max(map(len, value), default=0) > MAX_NAME:
                unknown = next(name for name in value if name not in type_.fields)
                raise bad_user_input(f"{path}: {unknown!r:.80} is no field of {type_.name}.")
            for name, known in _walked(type_):
                if name in value:
                    self.count(value[name], known, f"{path}.{name}")
        elif isinstance(type_, GraphQLEnumType) and isinstance(value, str) and len(value) > MAX_NAME:
            raise bad_user_input(f"{path}: {value!r:.80} is no value of {type_.name}.")


def _is_walked(type_: Any) -> bool:
    """Whether values of a type may hold lists or objects, or quote a name that is compared with others."""
    return "[" in str(type_) or isinstance(get_named_type(type_), GraphQLInputObjectType | GraphQLEnumType)


def _walked(type_: GraphQLInputObjectType) -> Iterable[tuple[str, Any]]:
    """The fields of an input type that are looked at."""
    found = type_.extensions.get("ringback_walked")
    if found is None:
        found = [(name, field.type) for name, field in type_.fields.items() if _is_walked(field.type)]
        type_.extensions["ringback_walked"] = found
    return found
