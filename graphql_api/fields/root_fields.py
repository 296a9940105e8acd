"""Root fields: their descriptions end with an example, and mutations answer with the errors of a refused input.

An example is a whole document that can be pasted into GraphiQL; a test checks each against the schema.
"""

from collections.abc import Awaitable, Callable
from functools import wraps
from textwrap import dedent
from typing import Any, get_args

import strawberry

from ringback.graphql_api.fields.input_errors import input_errors
from ringback.models.errors import InputRejected


def _described(prose: str, example: str) -> str:
    """Return a description in Markdown: what the field does, and how it is asked for."""
    return f"{prose}\n\n```graphql\n{dedent(example).strip()}\n```"


def query(prose: str, example: str) -> Any:
    """Turn a method into a query."""
    return strawberry.field(description=_described(prose, example))


def subscription(prose: str, example: str, graphql_type: Any = None) -> Any:
    """Turn a method into a subscription. `graphql_type` is the type of its results if the method yields others."""
    return strawberry.subscription(graphql_type=graphql_type, description=_described(prose, example))


def mutation(prose: str, example: str) -> Callable[[Callable[..., Awaitable[Any]]], Any]:
    """Turn a method into a mutation. If it refuses its input, the answer is its payload with the errors."""

    def field(resolve: Callable[..., Awaitable[Any]]) -> Any:
        payload, _ = get_args(resolve.__annotations__["return"])

        @wraps(resolve)
        async def answer(self: Any, **arguments: Any) -> Any:
            try:
                return await resolve(self, **arguments)
            except InputRejected as rejected:
                # Fields of an input object have its name before them; the argument `id` stands alone.
                path = "input" if "input" in arguments else ""
                return payload(errors=input_errors(rejected, path))

        return strawberry.mutation(answer, description=_described(prose, example))

    return field
