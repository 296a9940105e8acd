"""The engine: executes operations for every transport, on graphql-core and Strawberry's schema.

Strawberry's own `execute` builds its extensions anew for each request; what the limits and the cache need is made once
here. A transport asks for the operation of a request, looks at its kind, and executes or subscribes. What it gets is an
`Answer`, encoded once however many clients get it.
"""

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import orjson
import strawberry
from graphql import GraphQLError, GraphQLSchema, OperationType, located_error
from graphql.execution import (
    ExecutionResult,
    create_source_event_stream,
    execute_root_selection_set,
    execute_subscription_event,
)
from strawberry.execution import optimized_is_awaitable

from ringback.graphql_api.context import Context
from ringback.graphql_api.documents import Documents, Operation, Refused
from ringback.graphql_api.errors import ApiError, masked
from ringback.graphql_api.executor import QuickExecutor
from ringback.graphql_api.limits import Limits, exceeded
from ringback.graphql_api.variables import check_variables

__all__ = ["Answer", "Engine", "Operation", "OperationType", "Refused"]


@dataclass(slots=False)
class Answer:
    """What an operation gives: data, errors, or both; every error is fit for a client.

    `executed` is False where the request itself was refused, before or instead of its execution (GraphQL
    specification, 7.1.1: "request error result"): there is no data then, and a subscription has ended.
    """

    data: dict[str, Any] | None = None
    errors: tuple[GraphQLError, ...] = ()
    executed: bool = True

    @cached_property
    def json(self) -> bytes:
        """The response as JSON; errors come first, as the specification suggests, for people who read it."""
        try:
            return orjson.dumps(self._response)
        except TypeError as error:  # such as a text that is no Unicode, from a resolver of ours
            # orjson's own message names the type and nothing of the value.
            hidden = masked(GraphQLError(str(error), original_error=error))
            return orjson.dumps({"errors": [hidden.formatted], "data": None})

    @property
    def _response(self) -> dict[str, Any]:
        if not self.errors:
            return {"data": self.data}
        response: dict[str, Any] = {"errors": [error.formatted for error in self.errors]}
        if self.executed:
            response["data"] = self.data
        return response

    @cached_property
    def text(self) -> str:
        """The same, for transports that carry text."""
        return self.json.decode()


def refusal(*errors: GraphQLError) -> Answer:
    """The answer to a request that is not executed."""
    return Answer(None, errors, executed=False)


#: Variables are looked at until so many of their values are wrong.
MAX_COERCION_ERRORS = 20


class Engine:
    """Executes operations against a schema, within limits."""

    def __init__(self, schema: strawberry.Schema, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self._schema: GraphQLSchema = schema._schema
        self._documents = Documents(self._schema, self.limits)

    def close(self) -> None:
        """End what runs beside the event loop."""
        self._documents.close()

    async def operation(self, text: str, name: str | None = None) -> Operation:
        """The operation that a request means; raises Refused when it cannot be executed."""
        return await self._documents.operation(text, name)

    async def execute(self, operation: Operation, variables: Mapping[str, Any] | None, context: Context) -> Answer:
        """Execute a query or a mutation, for a token that still is valid."""
        try:
            await _reauthenticate(context)
            result = execute_root_selection_set(self._executor(operation, variables, context))
            if not isinstance(result, ExecutionResult):
                result = await result
        except Refused as refused:
            return refusal(*refused.errors)
        return _answer(result)

    async def subscribe(
        self, operation: Operation, variables: Mapping[str, Any] | None, context: Context
    ) -> AsyncGenerator[Answer, None]:
        """Execute a subscription: an answer for each thing that happens.

        One that cannot begin, or cannot go on, ends with a refusal. Close the generator when its reader goes.
        """
        try:
            await _reauthenticate(context)
            executor = self._executor(operation, variables, context)
        except Refused as refused:
            yield refusal(*refused.errors)
            return
        stream = create_source_event_stream(executor)
        if executor.is_awaitable(stream):
            stream = await stream
        if isinstance(stream, ExecutionResult):
            yield refusal(*(masked(error) for error in stream.errors or ()))
            return
        async with aclosing(cast(AsyncGenerator[Any, None], stream)) as happenings:
            while True:
                try:
                    happened = await anext(happenings)
                except StopAsyncIteration:
                    return
                except Exception as error:
                    yield refusal(masked(_located(error, operation)))
                    return
                result = execute_subscription_event(executor.build_per_event_executor(happened))
                yield _answer(result if isinstance(result, ExecutionResult) else await result)

    def _executor(self, operation: Operation, variables: Mapping[str, Any] | None, context: Context) -> QuickExecutor:
        """The executor of one request; raises Refused for variables that do not fit, and for the cost."""
        try:
            check_variables(self._schema, operation.node, variables)
        except GraphQLError as error:
            raise Refused(error) from error
        executor = QuickExecutor.build(
            self._schema,
            operation.document,
            None,
            context,
            dict(variables or {}),
            is_awaitable=cast(Any, optimized_is_awaitable),
            max_coercion_errors=MAX_COERCION_ERRORS,
        )
        if isinstance(executor, list):
            raise Refused(*(masked(error) for error in executor))
        assert isinstance(executor, QuickExecutor)
        allowed = self.limits.cost
        cost = operation.cost.of(executor.variable_values.coerced)
        if cost > allowed:
            message = f"The operation may read {cost:,} objects; {allowed:,} are allowed: ask for smaller pages."
            raise Refused(exceeded("cost", allowed, message))
        return executor


async def _reauthenticate(context: Context) -> None:
    try:
        await context.reauthenticate()
    except ApiError as error:
        raise Refused(error) from error


def _answer(result: ExecutionResult) -> Answer:
    return Answer(result.data, tuple(masked(error) for error in result.errors or ()))


def _located(error: Exception, operation: Operation) -> GraphQLError:
    """An error of a subscription's source, at the subscription's field."""
    fields = [node for node in operation.node.selection_set.selections if hasattr(node, "name")]
    names = [(getattr(node, "alias", None) or node.name).value for node in fields]
    return located_error(error, fields, names[:1])
