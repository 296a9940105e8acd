"""The engine: executes operations for every transport, on graphql-core and Strawberry's schema.

Strawberry's own `execute` builds its extensions anew for each request; what the limits and the cache need is made once
here. A transport asks for the operation of a request, looks at its kind, and executes or subscribes. What it gets is an
`ExecutionResponse`, encoded once however many clients get it.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Hashable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import cached_property, partial
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

from ringback.graphql_api.context.dataloaders import Loaders
from ringback.graphql_api.context.request_context import Context
from ringback.graphql_api.context.single_flight import EventBatch, SingleFlight, outcome
from ringback.graphql_api.errors import ApiError, mask_error, to_graphql_error
from ringback.graphql_api.execution.documents import Documents, Operation, RequestRefused
from ringback.graphql_api.execution.fast_executor import FastExecutor
from ringback.graphql_api.execution.operation_limits import OperationLimits, limit_exceeded
from ringback.graphql_api.execution.subscription_quota import SubscriptionQuota
from ringback.graphql_api.execution.variable_limits import check_variables
from ringback.graphql_api.fields.core_schema import core_schema

__all__ = ["Engine", "ExecutionResponse", "Operation", "OperationType", "RequestRefused"]


@dataclass(slots=False)
class ExecutionResponse:
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
        response: dict[str, Any] = {}
        if self.errors:
            response["errors"] = [error.formatted for error in self.errors]
        if self.executed or not self.errors:
            response["data"] = self.data
        try:
            return orjson.dumps(response)
        except TypeError as error:  # such as a text that is no Unicode, from a resolver of ours
            # orjson's own message names the type and nothing of the value.
            return orjson.dumps({"errors": [to_graphql_error(error).formatted], "data": None})

    @cached_property
    def text(self) -> str:
        """The same, for transports that carry text."""
        return self.json.decode()


def error_response(*errors: GraphQLError) -> ExecutionResponse:
    """The answer to a request that is not executed."""
    return ExecutionResponse(None, errors, executed=False)


#: Variables are looked at until so many of their values are wrong.
MAX_COERCION_ERRORS = 20
#: Answers of subscriptions that are kept for others who are told the same, and for how many seconds at most.
KEPT_ANSWERS, KEPT_SECONDS = 4_096, 1.0


class Engine:
    """Executes operations against a schema, within limits."""

    def __init__(self, schema: strawberry.Schema, limits: OperationLimits | None = None) -> None:
        self.limits = limits or OperationLimits()
        self._schema: GraphQLSchema = core_schema(schema)
        self._documents = Documents(self._schema, self.limits)
        self.quota = SubscriptionQuota(self.limits.subscriptions_per_token)
        self._answers: SingleFlight[Hashable, ExecutionResponse] = SingleFlight(
            KEPT_ANSWERS, KEPT_SECONDS, worth_keeping=lambda answer: not answer.errors
        )
        # They keep nothing, so all subscriptions may have the same: what is told at the same time is loaded together.
        self._loaders = Loaders()

    def close(self) -> None:
        """End what runs beside the event loop."""
        self._documents.close()

    async def operation(self, text: str, name: str | None = None) -> Operation:
        """The operation that a request means; raises RequestRefused when it cannot be executed."""
        return await self._documents.operation(text, name)

    async def execute(
        self, operation: Operation, variables: Mapping[str, Any] | None, context: Context
    ) -> ExecutionResponse:
        """Execute a query or a mutation, for a token that still is valid."""
        try:
            await _reauthenticate(context)
            result = execute_root_selection_set(self._executor(operation, variables, context))
            if not isinstance(result, ExecutionResult):
                result = await result
        except RequestRefused as refused:
            return error_response(*refused.errors)
        return _answer(result)

    async def subscribe(
        self, operation: Operation, variables: Mapping[str, Any] | None, context: Context
    ) -> AsyncGenerator[ExecutionResponse, None]:
        """Execute a subscription: an answer for each thing that happens.

        One that cannot begin, or cannot go on, ends with a refusal. An answer may be others' too: it is not to be
        changed. Close the generator when its reader goes.
        """
        try:
            await _reauthenticate(context)
            executor = self._executor(operation, variables, replace(context, loaders=self._loaders))
            words = _words(operation, variables, context)
            with self.quota.one_more(context.viewer.id):
                async with aclosing(_source(executor, operation)) as source:
                    async for happened in source:
                        for told in self._told(happened, executor, words):
                            answer = await outcome(told)
                            await _reauthenticate(context)
                            yield answer
        except RequestRefused as refused:
            yield error_response(*refused.errors)

    def _told(self, happened: Any, executor: FastExecutor, words: Hashable) -> list[asyncio.Future[ExecutionResponse]]:
        """The answers to what happened, all begun; to a burst once for all who are told of it in the same words."""
        if not isinstance(happened, EventBatch):
            return [asyncio.ensure_future(_tell(executor, happened))]
        return [
            self._answers.ask((one, words), partial(_tell, executor, one, happened.show)) for one in happened.happened
        ]

    def _executor(self, operation: Operation, variables: Mapping[str, Any] | None, context: Context) -> FastExecutor:
        """The executor of one request; raises RequestRefused for variables that do not fit, and for the cost."""
        try:
            check_variables(self._schema, operation.node, variables)
        except GraphQLError as error:
            raise RequestRefused(error) from error
        executor = FastExecutor.build(
            self._schema,
            operation.document,
            None,
            context,
            dict(variables or {}),
            is_awaitable=cast(Any, optimized_is_awaitable),
            max_coercion_errors=MAX_COERCION_ERRORS,
        )
        if isinstance(executor, list):
            raise RequestRefused(*(mask_error(error) for error in executor))
        assert isinstance(executor, FastExecutor)
        if operation.kept is not None:
            executor.keep_selections(operation.kept)
        allowed = self.limits.cost
        cost = operation.cost.of(executor.variable_values.coerced)
        if cost > allowed:
            message = f"The operation may read {cost:,} objects; {allowed:,} are allowed: ask for smaller pages."
            raise RequestRefused(limit_exceeded("cost", allowed, message))
        return executor


async def _reauthenticate(context: Context) -> None:
    try:
        await context.reauthenticate()
    except ApiError as error:
        raise RequestRefused(error) from error


def _words(operation: Operation, variables: Mapping[str, Any] | None, context: Context) -> Hashable:
    """What an answer depends on besides what happened: subscribers with equal words and roles share it."""
    used = {name: value for name, value in (variables or {}).items() if name in operation.told_by}
    return operation, json.dumps(used, sort_keys=True), context.viewer.role


async def _source(executor: FastExecutor, operation: Operation) -> AsyncGenerator[Any, None]:
    """What the root field's resolver tells; raises RequestRefused when it cannot begin, or go on."""
    stream = create_source_event_stream(executor)
    if executor.is_awaitable(stream):
        stream = await stream
    if isinstance(stream, ExecutionResult):
        raise RequestRefused(*(mask_error(error) for error in stream.errors or ()))
    async with aclosing(cast(AsyncGenerator[Any, None], stream)) as happenings:
        try:
            async for happened in happenings:
                yield happened
        except Exception as error:
            raise RequestRefused(mask_error(_located(error, operation))) from error


async def _tell(executor: FastExecutor, happened: Any, show: Callable[[Any], Any] | None = None) -> ExecutionResponse:
    """The answer to one thing that happened."""
    try:
        shown = happened if show is None else show(happened)
        result = execute_subscription_event(executor.build_per_event_executor(shown))
        return _answer(result if isinstance(result, ExecutionResult) else await result)
    except Exception as error:  # not of a field: the next one may go well
        return ExecutionResponse(None, (to_graphql_error(error),))


def _answer(result: ExecutionResult) -> ExecutionResponse:
    return ExecutionResponse(result.data, tuple(mask_error(error) for error in result.errors or ()))


def _located(error: Exception, operation: Operation) -> GraphQLError:
    """An error of a subscription's source, at the subscription's field."""
    fields = [node for node in operation.node.selection_set.selections if hasattr(node, "name")]
    names = [(getattr(node, "alias", None) or node.name).value for node in fields]
    return located_error(error, fields, names[:1])
