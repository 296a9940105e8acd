"""Decorators for root fields. A method's docstring describes the field; an example document follows it.

An example can be pasted into GraphiQL; a test checks each against the schema.
"""

from collections.abc import Awaitable, Callable
from functools import wraps
from textwrap import dedent
from typing import Any, get_args

import strawberry

from ringback.graphql_api.fields.descriptions import describe_by_docstring
from ringback.graphql_api.fields.input_errors import to_input_errors
from ringback.models.errors import InputRejected


def query(example: str) -> Callable[[Callable[..., Any]], Any]:
    """Turn a method into a query."""

    def make_field(resolve: Callable[..., Any]) -> Any:
        return strawberry.field(resolver=resolve, description=_describe(resolve, example))

    return make_field


def subscription(example: str, graphql_type: Any = None) -> Callable[[Callable[..., Any]], Any]:
    """Turn a method into a subscription. `graphql_type` is the field's type if the method yields another one."""

    def make_field(resolve: Callable[..., Any]) -> Any:
        description = _describe(resolve, example)
        return strawberry.subscription(resolver=resolve, graphql_type=graphql_type, description=description)

    return make_field


def mutation(example: str) -> Callable[[Callable[..., Awaitable[Any]]], Any]:
    """Turn a method into a mutation. If it raises InputRejected, its payload has the errors and nothing else."""

    def make_field(resolve: Callable[..., Awaitable[Any]]) -> Any:
        payload_type, _ = get_args(resolve.__annotations__["return"])

        @wraps(resolve)
        async def resolve_or_list_errors(self: Any, **arguments: Any) -> Any:
            try:
                return await resolve(self, **arguments)
            except InputRejected as rejected:
                return payload_type(errors=to_input_errors(rejected, has_input="input" in arguments))

        return strawberry.mutation(resolver=resolve_or_list_errors, description=_describe(resolve, example))

    return make_field


def _describe(resolve: Callable[..., Any], example: str) -> str:
    """Return the description of a root field in Markdown."""
    return f"{describe_by_docstring(resolve)}\n\n```graphql\n{dedent(example).strip()}\n```"
