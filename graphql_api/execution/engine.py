"""The engine: executes operations for every transport, with graphql-core on Strawberry's schema.

Strawberry's own `execute` builds its extensions for each request; the engine makes the caches and limits once. A
transport gets the operation of a request, looks at its kind, and calls `execute` or `subscribe`. It receives
`ExecutionResponse`s, each encoded once for all its clients.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Hashable, Mapping
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
from ringback.graphql_api.context.single_flight import EventBatch, SingleFlight, wait_for_result
from ringback.graphql_api.errors import ApiError, mask_error, to_graphql_error
from ringback.graphql_api.execution.byte_budget import OperationBudget, is_too_large
from ringback.graphql_api.execution.documents import Documents, Operation, RequestRefused
from ringback.graphql_api.execution.fast_executor import FastExecutor
from ringback.graphql_api.execution.operation_limits import OperationLimits, limit_exceeded
from ringback.graphql_api.execution.subscription_quota import SubscriptionQuota
from ringback.graphql_api.execution.variable_limits import check_variables
from ringback.graphql_api.fields.core_schema import core_schema
from ringback.models import exact_json

__all__ = ["Engine", "ExecutionResponse", "Operation", "OperationType", "RequestRefused"]


#: Errors after which graphql-core stops coercing the variables of a request.
MAX_COERCION_ERRORS = 20
#: Responses to subscriptions that are cached for other subscribers to the same event.
MAX_CACHED_RESPONSES = 4_096
#: Bytes of such a response, at most. Longer ones are shared only while they are made.
MAX_CACHED_BYTES = 16_384
#: Bytes that the items of a batch may read or return together.
MAX_BATCH_BYTES = 4_194_304
#: Seconds for which such a response is cached.
RESPONSE_CACHE_SECONDS = 1.0


@dataclass(slots=False)
class ExecutionResponse:
    """The response to an operation: data, errors, or both. Every error is safe to send to a client.

    `executed` is False for a request error (GraphQL specification, 7.1.1): the response has no data then, and a
    subscription has ended.
    """

    data: dict[str, Any] | None = None
    errors: tuple[GraphQLError, ...] = ()
    executed: bool = True

    @cached_property
    def json(self) -> bytes:
        """The response as JSON. Errors come first, as the specification suggests for readability."""
        response: dict[str, Any] = {}
        if self.errors:
            response["errors"] = [error.formatted for error in self.errors]
        if self.executed or not self.errors:
            response["data"] = self.data
        try:
            return exact_json.dump(response)
        except TypeError as error:  # such as a lone surrogate in a string from one of our resolvers
            # orjson's own message names the type and does not quote the value.
            return orjson.dumps({"errors": [to_graphql_error(error).formatted], "data": None})

    @cached_property
    def text(self) -> str:
        """The response as JSON text, for transports that carry text."""
        return self.json.decode()


def error_response(*errors: GraphQLError) -> ExecutionResponse:
    """Return the response to a request that is not executed."""
    return ExecutionResponse(None, errors, executed=False)


class Engine:
    """Executes operations against a schema, within limits."""

    def __init__(self, schema: strawberry.Schema, limits: OperationLimits | None = None) -> None:
        self.limits = limits or OperationLimits()
        self._schema: GraphQLSchema = core_schema(schema)
        self._documents = Documents(self._schema, self.limits)
        self.quota = SubscriptionQuota(self.limits.subscriptions_per_token)
        self._responses: SingleFlight[Hashable, ExecutionResponse] = SingleFlight(
            MAX_CACHED_RESPONSES, RESPONSE_CACHE_SECONDS, cache_if=_is_cacheable
        )
        #: Held by the large operation that runs.
        self._turns = asyncio.Lock()
        # Loaders do not cache, so all subscriptions can share them: concurrent events are loaded together.
        self._loaders = Loaders()

    def close(self) -> None:
        """Stop the thread that checks documents."""
        self._documents.close()

    async def operation(self, text: str, name: str | None = None) -> Operation:
        """Return the operation of a document, by its name if it has several. Raises RequestRefused if it is invalid."""
        return await self._documents.operation(text, name)

    async def execute(
        self, operation: Operation, variables: Mapping[str, Any] | None, context: Context
    ) -> ExecutionResponse:
        """Execute a query or a mutation, if the token is still valid."""
        try:
            await _reauthenticate(context)
            executor = self._make_executor(operation, variables, context.with_own_loaders())
        except RequestRefused as refused:
            return error_response(*refused.errors)
        return await self._execute_within_budget(partial(execute_root_selection_set, executor))

    async def subscribe(
        self, operation: Operation, variables: Mapping[str, Any] | None, context: Context
    ) -> AsyncGenerator[ExecutionResponse, None]:
        """Execute a subscription and yield a response for each event.

        A subscription that cannot start or go on ends with a response that was not executed. Subscribers share
        responses, so do not change them. Close the generator when its reader disconnects.
        """
        try:
            await _reauthenticate(context)
            executor = self._make_executor(operation, variables, replace(context, loaders=self._loaders))
            response_key = _response_key(operation, variables, context)
            with self.quota.reserve(context.viewer.id):
                async with (
                    aclosing(_source_events(executor, operation)) as events,
                    aclosing(self._respond_to_events(events, executor, response_key)) as responses,
                ):
                    async for response in responses:
                        await _reauthenticate(context)
                        yield response
        except RequestRefused as refused:
            yield error_response(*refused.errors)

    async def _respond_to_events(
        self, events: AsyncGenerator[Any, None], executor: FastExecutor, response_key: Hashable
    ) -> AsyncGenerator[ExecutionResponse, None]:
        """Yield the response to each event, and to each item of a batch.

        Subscribers with equal keys share the responses to items. The items of a batch are loaded together, unless they
        exceed the budget of a batch: then each is executed by itself.
        """
        async for event in events:
            if not isinstance(event, EventBatch):
                yield await self._execute_alone(executor, event)
                continue
            together = partial(_execute_item, partial(_execute_event, executor), event.to_object)
            alone = partial(_execute_item, partial(self._execute_alone, executor), event.to_object)
            with OperationBudget(MAX_BATCH_BYTES, turns=None):
                futures = [self._responses.run((item, response_key), partial(together, item)) for item in event.items]
            for item, future in zip(event.items, futures, strict=True):
                response = await wait_for_result(future)
                if is_too_large(response.errors):
                    run_alone = self._responses.run((item, response_key, "alone"), partial(alone, item))
                    response = await wait_for_result(run_alone)
                yield response

    async def _execute_alone(self, executor: FastExecutor, event: Any) -> ExecutionResponse:
        """Return the response to one event, with loaders and a budget of its own."""
        per_event = executor.build_per_event_executor(event)
        per_event.context_value = executor.context_value.with_own_loaders()
        try:
            return await self._execute_within_budget(partial(execute_subscription_event, per_event))
        except Exception as error:
            return ExecutionResponse(None, (to_graphql_error(error),))

    async def _execute_within_budget(self, execute: Callable[[], Any]) -> ExecutionResponse:
        with OperationBudget(self.limits.response_bytes, self._turns) as budget:
            result = execute()
            if not isinstance(result, ExecutionResult):
                result = await result
            response = _make_response(result)
            if budget.is_large:
                _ = response.json  # encoded before the next large operation runs
            return response

    def _make_executor(
        self, operation: Operation, variables: Mapping[str, Any] | None, context: Context
    ) -> FastExecutor:
        """Return the executor of a request. Raises RequestRefused for invalid variables or too high a cost."""
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
            hide_suggestions=not self.limits.introspection,
        )
        if isinstance(executor, list):
            raise RequestRefused(*map(mask_error, executor))
        assert isinstance(executor, FastExecutor)
        if operation.selection_cache is not None:
            executor.use_selection_cache(operation.selection_cache)
        self._check_cost(operation.cost.total(executor.variable_values.coerced))
        return executor

    def _check_cost(self, cost: int) -> None:
        allowed = self.limits.cost
        if cost > allowed:
            message = f"The operation may read {cost:,} objects; {allowed:,} are allowed. Ask for smaller pages."
            raise RequestRefused(limit_exceeded("cost", allowed, message))


def _is_cacheable(response: ExecutionResponse) -> bool:
    return not response.errors and len(response.json) <= MAX_CACHED_BYTES


async def _reauthenticate(context: Context) -> None:
    try:
        await context.reauthenticate()
    except ApiError as error:
        raise RequestRefused(error) from error


def _response_key(operation: Operation, variables: Mapping[str, Any] | None, context: Context) -> Hashable:
    """Return all that a response depends on besides the event."""
    used = {name: value for name, value in (variables or {}).items() if name in operation.response_variables}
    return operation, json.dumps(used, sort_keys=True), context.viewer.role


async def _source_events(executor: FastExecutor, operation: Operation) -> AsyncGenerator[Any, None]:
    """Yield the events of the root field's resolver. Raises RequestRefused if it cannot start or go on."""
    stream = create_source_event_stream(executor)
    if executor.is_awaitable(stream):
        stream = await stream
    if isinstance(stream, ExecutionResult):
        raise RequestRefused(*map(mask_error, stream.errors or ()))
    async with aclosing(cast(AsyncGenerator[Any, None], stream)) as events:
        try:
            async for event in events:
                yield event
        except Exception as error:
            raise RequestRefused(mask_error(_locate_at_root_field(error, operation))) from error


async def _execute_item(
    execute: Callable[[Any], Awaitable[ExecutionResponse]], to_object: Callable[[Any], Any], item: Any
) -> ExecutionResponse:
    try:
        event = to_object(item)
    except Exception as error:
        return ExecutionResponse(None, (to_graphql_error(error),))
    return await execute(event)


async def _execute_event(executor: FastExecutor, event: Any) -> ExecutionResponse:
    """Return the response to one event. An unexpected error becomes a response too: the next event may succeed."""
    try:
        result = execute_subscription_event(executor.build_per_event_executor(event))
        if not isinstance(result, ExecutionResult):
            result = await result
        return _make_response(result)
    except Exception as error:
        return ExecutionResponse(None, (to_graphql_error(error),))


def _make_response(result: ExecutionResult) -> ExecutionResponse:
    return ExecutionResponse(result.data, tuple(map(mask_error, result.errors or ())))


def _locate_at_root_field(error: Exception, operation: Operation) -> GraphQLError:
    """Return an error of a subscription's source, with the location and path of the subscription's root field."""
    fields = [node for node in operation.node.selection_set.selections if hasattr(node, "name")]
    names = [(getattr(node, "alias", None) or node.name).value for node in fields]
    return located_error(error, fields, names[:1])
