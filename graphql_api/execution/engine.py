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
from uuid import UUID

import orjson
import strawberry
from graphql import GraphQLError, GraphQLSchema, OperationType, located_error
from graphql.execution import (
    ExecutionResult,
    create_source_event_stream,
    execute_root_selection_set,
    execute_subscription_event,
)
from graphql.pyutils import AwaitableOrValue, Undefined
from strawberry.execution import optimized_is_awaitable

from ringback.graphql_api.context.dataloaders import Loaders
from ringback.graphql_api.context.request_context import Context
from ringback.graphql_api.context.single_flight import EventBatch, SingleFlight, wait_for_result
from ringback.graphql_api.errors import ApiError, mask_error, to_graphql_error
from ringback.graphql_api.execution.byte_budget import MAX_BATCH_BYTES, SMALL_BYTES, OperationBudget, is_too_large
from ringback.graphql_api.execution.documents import Documents, Operation, RequestRefused, TooManyRequests
from ringback.graphql_api.execution.fast_executor import FastExecutor
from ringback.graphql_api.execution.operation_limits import OperationLimits, limit_exceeded
from ringback.graphql_api.execution.shared_rows import SharedRows
from ringback.graphql_api.execution.subscription_quota import SubscriptionQuota
from ringback.graphql_api.execution.turns import Turns
from ringback.graphql_api.execution.variable_limits import check_variables
from ringback.graphql_api.fields.core_schema import core_schema
from ringback.models import exact_json
from ringback.models.fair_slots import FairSlots
from ringback.models.services.slow_checks import Caller

__all__ = ["Engine", "ExecutionResponse", "Operation", "OperationType", "RequestRefused", "TooManyRequests"]


#: Errors after which graphql-core stops coercing the variables of a request.
MAX_COERCION_ERRORS = 20
#: Responses to subscriptions that are cached for other subscribers to the same event.
MAX_CACHED_RESPONSES = 1_024
#: Bytes of such a response, at most. Longer ones are shared only while they are made.
MAX_CACHED_BYTES = 16_384
#: Bytes that the batches of all subscriptions may read or return together. Each waits until its client reads.
MAX_BYTES_AHEAD = 16_777_216
#: Events that subscriptions execute alone at the same time: each may read and return much.
MAX_EVENTS_ALONE = 8
#: Responses that all subscriptions together execute ahead of those that are sent, which take memory.
MAX_RESPONSES_AHEAD = 4_096
#: Tokens of a document, times the responses that its subscription executes in one turn, which takes time.
MAX_TOKENS_AHEAD = 10_000
#: Queries and mutations that are executed at the same time, above which others start in turns of the tokens.
MAX_STARTED_AT_ONCE = 16
#: Subscriptions that execute an item at the same time, if no other shares the response.
MAX_SUBSCRIPTIONS_AT_ONCE = 16
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


@dataclass(frozen=True, slots=True)
class _Subscriber:
    """A running subscription. Those with equal response keys get the same responses."""

    executor: FastExecutor
    operation: Operation
    response_key: Hashable
    token_id: UUID


class Engine:
    """An executor of operations against a schema, within limits."""

    def __init__(self, schema: strawberry.Schema, limits: OperationLimits | None = None) -> None:
        self.limits = limits or OperationLimits()
        self._schema: GraphQLSchema = core_schema(schema)
        self._documents = Documents(self._schema, self.limits)
        self.quota = SubscriptionQuota(self.limits)
        self._responses: SingleFlight[Hashable, ExecutionResponse] = SingleFlight(
            MAX_CACHED_RESPONSES, RESPONSE_CACHE_SECONDS, cache_if=_is_cacheable
        )
        self._turns = Turns()
        #: Turns in which queries and mutations start while many are executed.
        self._starts = Turns()
        #: Held by the long WebSocket message that is parsed.
        self.long_messages = FairSlots(1)
        #: Held while the operations of a closed connection are stopped.
        self.stopping = asyncio.Lock()
        #: Held by the large operation that runs.
        self._large_operations = FairSlots(1)
        #: Held by the events that subscriptions execute alone.
        self._events_alone = FairSlots(MAX_EVENTS_ALONE)
        self._shared_rows = SharedRows()
        #: Held by subscriptions that execute an item alone, as their rows may arrive together.
        self._subscriptions = FairSlots(MAX_SUBSCRIPTIONS_AT_ONCE)

    def close(self) -> None:
        """Stop the thread that checks documents and introspects."""
        self._documents.close()

    async def operation(
        self, text: str, name: str | None = None, *, token_id: UUID | None = None, request_bytes: int = 0
    ) -> Operation:
        """Return the operation of a document, by its name if it has several. Raises RequestRefused if it is invalid.

        A new document is checked in its API token's turn. `request_bytes` is the size of the request, which waits too.
        Raises TooManyRequests if too many of the token wait.
        """
        return await self._documents.operation(text, name, token_id, request_bytes)

    async def execute(
        self, operation: Operation, variables: Mapping[str, Any] | None, context: Context
    ) -> ExecutionResponse:
        """Execute a query or a mutation, if the token is still valid."""
        try:
            await _reauthenticate(context)
            executor = self._make_executor(operation, variables, context.with_own_loaders())
        except RequestRefused as refused:
            return error_response(*refused.errors)
        execute = partial(execute_root_selection_set, executor)
        with self._turns.give_way():
            try:
                if self._turns.requests > MAX_STARTED_AT_ONCE:
                    await self._starts.take(context.viewer.id)
                return await self._execute_within_budget(execute, context)
            finally:
                executor.forget_values()

    async def subscribe(
        self, operation: Operation, variables: Mapping[str, Any] | None, context: Context
    ) -> AsyncGenerator[ExecutionResponse, None]:
        """Execute a subscription and yield a response for each event.

        A subscription that cannot start or go on ends with a response that was not executed. Subscribers share
        responses, so do not change them. Close the generator when its reader disconnects.
        """
        try:
            await _reauthenticate(context)
            executor = self._make_executor(operation, variables, context)
            response_key = _response_key(operation, variables, context)
            # The executor keeps the variables that the operation declares. Others would stay as long as this frame.
            del variables
            subscriber = _Subscriber(executor, operation, response_key, context.viewer.id)
            variable_chars = _count_variable_chars(executor)
            with self.quota.reserve(subscriber.token_id, operation, variable_chars):
                async with aclosing(_source_events(executor, operation)) as events:
                    async for event in events:
                        async with aclosing(self._execute_events(event, subscriber)) as responses:
                            async for response in responses:
                                await _reauthenticate(context)
                                yield response
                                # Else each of thousands of idle subscriptions would keep its last response.
                                del response
        except RequestRefused as refused:
            yield error_response(*refused.errors)

    async def _execute_events(self, event: Any, subscriber: _Subscriber) -> AsyncGenerator[ExecutionResponse, None]:
        """Yield the responses to an event, or to all items of a batch, each in a turn of the subscriber's token."""
        if not isinstance(event, EventBatch):
            await self._turns.take(subscriber.token_id)
            yield await self._execute_alone(subscriber.executor, event)
            return
        ahead = self._count_ahead(subscriber.operation)
        for first in range(0, len(event.items), ahead):
            items = event.items[first : first + ahead]
            if len(items) == 1 and not self.quota.is_shared(subscriber.operation):
                yield await self._execute_unshared(items[0], event.to_object, subscriber)
                continue
            # An equal subscriber may have taken this turn.
            if (items[0], subscriber.response_key) not in self._responses:
                await self._turns.take(subscriber.token_id)
            batch_bytes = min(MAX_BATCH_BYTES, MAX_BYTES_AHEAD // self.quota.total)
            loaders = self._shared_rows.loaders_for(items)
            with Caller(subscriber.token_id), OperationBudget(batch_bytes, None, subscriber.token_id):
                futures = [self._start_item(item, event.to_object, subscriber, loaders) for item in items]
            for item, future in zip(items, futures, strict=True):
                response = await self._turns.wait_for(subscriber.token_id, future)
                if is_too_large(response.errors):
                    response = await wait_for_result(self._start_item_alone(item, event.to_object, subscriber))
                yield response
                del response, future

    def _count_ahead(self, operation: Operation) -> int:
        """Return how many items of a batch are executed together, so that their rows are loaded together."""
        by_memory = MAX_RESPONSES_AHEAD // self.quota.total
        by_time = MAX_TOKENS_AHEAD // operation.token_count
        return max(1, min(by_memory, by_time))

    async def _execute_unshared(
        self, item: Any, to_object: Callable[[Any], Any], subscriber: _Subscriber
    ) -> ExecutionResponse:
        """Return the response to an item that no equal subscriber needs."""
        async with self._subscriptions.hold(subscriber.token_id):
            await self._turns.take(subscriber.token_id)
            execute = partial(_execute_event, subscriber.executor, self._shared_rows.loaders_for([item]))
            with Caller(subscriber.token_id), OperationBudget(SMALL_BYTES, None, subscriber.token_id):
                response = await _execute_item(execute, to_object, item)
        if is_too_large(response.errors):
            response = await _execute_item(partial(self._execute_alone, subscriber.executor), to_object, item)
        return response

    def _start_item(
        self, item: Any, to_object: Callable[[Any], Any], subscriber: _Subscriber, loaders: Loaders
    ) -> "asyncio.Future[ExecutionResponse]":
        """Start executing an item, unless a subscriber with an equal key has. Equal subscribers share the response."""
        execute = partial(_execute_event, subscriber.executor, loaders)
        return self._responses.run((item, subscriber.response_key), partial(_execute_item, execute, to_object, item))

    def _start_item_alone(
        self, item: Any, to_object: Callable[[Any], Any], subscriber: _Subscriber
    ) -> "asyncio.Future[ExecutionResponse]":
        """Start executing an item that exceeded the budget of its batch, in the same way."""
        execute = partial(self._execute_alone, subscriber.executor)
        key = (item, subscriber.response_key, "alone")
        return self._responses.run(key, partial(_execute_item, execute, to_object, item))

    async def _execute_alone(self, executor: FastExecutor, event: Any) -> ExecutionResponse:
        """Return the response to one event, with loaders and a budget of its own."""
        per_event = executor.build_per_event_executor(event)
        context = executor.context_value.with_own_loaders()
        per_event.context_value = context
        execute = partial(execute_subscription_event, per_event)
        try:
            async with self._events_alone.hold(context.viewer.id):
                return await self._execute_within_budget(execute, context)
        except Exception as error:
            return ExecutionResponse(None, (to_graphql_error(error),))
        finally:
            context.loaders.clear()

    async def _execute_within_budget(self, execute: Callable[[], Any], context: Context) -> ExecutionResponse:
        token_id = context.viewer.id
        budget = OperationBudget(
            self.limits.response_bytes, self._large_operations, token_id, request_slot=context.request_slot
        )
        with Caller(token_id, is_late=budget.is_late), budget:
            response = await _complete(execute())
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
        executor.selections.cache = operation.selection_cache
        executor.run_in_thread = partial(self._documents.run_in_thread, context.viewer.id)
        self._check_cost(operation.cost.total(executor.variable_values.coerced))
        return executor

    def _check_cost(self, cost: int) -> None:
        allowed = self.limits.cost
        if cost > allowed:
            message = (
                f"The operation may read {cost:,} objects; {allowed:,} are allowed (RINGBACK_API_MAX_COST). "
                "Ask for smaller pages."
            )
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


def _count_variable_chars(executor: FastExecutor) -> int:
    """Return the length of an executor's variables as JSON."""
    values = [source.value for source in executor.variable_values.sources.values() if source.value is not Undefined]
    return sum(len(json.dumps(value)) for value in values)


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
    """Return the response to one item. An unexpected error becomes a response too: the next item may succeed."""
    try:
        return await execute(to_object(item))
    except Exception as error:
        return ExecutionResponse(None, (to_graphql_error(error),))


async def _execute_event(executor: FastExecutor, loaders: Loaders, event: Any) -> ExecutionResponse:
    per_event = executor.build_per_event_executor(event)
    per_event.context_value = replace(executor.context_value, loaders=loaders)
    return await _complete(execute_subscription_event(per_event))


async def _complete(result: AwaitableOrValue[ExecutionResult]) -> ExecutionResponse:
    if not isinstance(result, ExecutionResult):
        result = await result
    errors = result.errors or ()
    response = ExecutionResponse(result.data, tuple(map(mask_error, errors)))
    for error in errors:
        _forget_frames(error)
    return response


def _forget_frames(error: GraphQLError) -> None:
    """Drop the tracebacks of an error: their frames refer to it, and keep rows until garbage is collected."""
    cause: Exception | None = error
    while cause is not None:
        cause.__traceback__ = None
        cause = cause.original_error if isinstance(cause, GraphQLError) else None


def _locate_at_root_field(error: Exception, operation: Operation) -> GraphQLError:
    """Return an error of a subscription's source, with the location and path of the subscription's root field."""
    fields = [node for node in operation.node.selection_set.selections if hasattr(node, "name")]
    names = [(getattr(node, "alias", None) or node.name).value for node in fields]
    return located_error(error, fields, names[:1])
