"""Limit on the size of variables, checked before graphql-core coerces them: 500,000 list entries took it 0.5 s."""

from collections.abc import Mapping
from typing import Any

from graphql import (
    GraphQLInputObjectType,
    GraphQLList,
    GraphQLSchema,
    OperationDefinitionNode,
    get_nullable_type,
    type_from_ast,
)

from ringback.graphql_api.execution.operation_limits import limit_exceeded

#: List entries and input fields in the variables of one request: more than any argument takes.
MAX_ENTRIES = 10_000


def check_variables(
    schema: GraphQLSchema, operation: OperationDefinitionNode, variables: Mapping[str, Any] | None
) -> None:
    """Raise ApiError when the variables hold too many list entries and input fields.

    JSON scalars have limits of their own: a client's objects may be large.
    """
    given = variables or {}
    definitions = {definition.variable.name.value: definition for definition in operation.variable_definitions or ()}
    values: list[tuple[Any, Any]] = [
        (given[name], type_from_ast(schema, d.type)) for name, d in definitions.items() if name in given
    ]
    count = 0
    while values:
        value, type_ = values.pop()
        kind: Any = get_nullable_type(type_)
        if isinstance(kind, GraphQLList):
            # A value that is no list stands for a list of it (GraphQL specification, 3.11).
            entries = value if isinstance(value, list) else [value]
            count += len(entries)
            inner = ((entry, kind.of_type) for entry in entries)
        elif isinstance(kind, GraphQLInputObjectType) and isinstance(value, dict):
            count += len(value)
            inner = ((value[name], field.type) for name, field in kind.fields.items() if name in value)
        else:
            continue
        if count > MAX_ENTRIES:
            message = f"The variables hold over {MAX_ENTRIES:,} list entries and fields. Send fewer in one request."
            raise limit_exceeded("listEntries", MAX_ENTRIES, message)
        values += inner
