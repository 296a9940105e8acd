"""The limit on the size of variables, checked before graphql-core coerces them, which takes 1 µs per list entry."""

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

#: List entries and input fields in the variables of one request, at most: more than any argument takes.
MAX_ENTRIES = 10_000


def check_variables(
    schema: GraphQLSchema, operation: OperationDefinitionNode, variables: Mapping[str, Any] | None
) -> None:
    """Raise ApiError (LIMIT_EXCEEDED) if the variables hold too many list entries and input fields.

    JSON scalars are not counted; they have limits of their own.
    """
    values = variables or {}
    pending: list[tuple[Any, Any]] = []
    for definition in operation.variable_definitions or ():
        name = definition.variable.name.value
        if name in values:
            pending.append((values[name], type_from_ast(schema, definition.type)))
    count = 0
    while pending:
        value, type_ = pending.pop()
        nullable: Any = get_nullable_type(type_)
        if isinstance(nullable, GraphQLList):
            # A single value stands for a list of one (GraphQL specification, 3.11).
            entries = value if isinstance(value, list) else [value]
            count += len(entries)
            inner = ((entry, nullable.of_type) for entry in entries)
        elif isinstance(nullable, GraphQLInputObjectType) and isinstance(value, dict):
            count += len(value)
            inner = ((value[name], field.type) for name, field in nullable.fields.items() if name in value)
        else:
            continue
        if count > MAX_ENTRIES:
            message = (
                f"The variables hold over {MAX_ENTRIES:,} list entries and fields, a fixed limit. "
                "Send fewer in one request."
            )
            raise limit_exceeded("listEntries", MAX_ENTRIES, message)
        pending += inner
