"""Documents: parsed, validated and cached.

Parsing and validation take three quarters of a small request's time, and 0.2 s for a hostile document. So they run in
a thread of their own, to keep the event loop responsive, and results are cached, including refusals. Clients decide
which documents come, so API tokens take turns in the thread and have shares of the cache. Introspection runs there too.
"""

import asyncio
import re
import sys
from bisect import bisect_right
from collections.abc import Callable, Mapping
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

from graphql import (
    DocumentNode,
    GraphQLError,
    GraphQLSchema,
    Location,
    OperationDefinitionNode,
    OperationType,
    Source,
    SourceLocation,
    Token,
    TokenKind,
    separate_operations,
    validate,
)
from graphql.language.parser import Parser
from graphql.validation.rules import overlapping_fields_can_be_merged
from graphql.validation.validate import ValidationAbortedError

from ringback.graphql_api.errors import ApiError, mask_error
from ringback.graphql_api.execution.check_queue import CheckQueue, QueueFull
from ringback.graphql_api.execution.document_cache import DocumentCache
from ringback.graphql_api.execution.operation_limits import (
    OperationLimits,
    limit_exceeded,
    too_deep,
    too_many_documents,
)
from ringback.graphql_api.execution.query_cost import Cost, CostEstimator
from ringback.graphql_api.execution.query_shape import check_shape
from ringback.graphql_api.execution.selections import SelectionCache
from ringback.graphql_api.execution.variable_usage import VariableUsage

#: Bytes of all cached documents together, as `_Document.weight` estimates them.
CACHED_BYTES = 12_000_000
#: Bytes of a cached document for each token of its text, with the selections that executions add.
BYTES_PER_TOKEN = 400
#: Bytes of a cached document besides: even short ones take a few kilobytes.
BYTES_PER_DOCUMENT = 8_000
#: Bytes of an error of a refused document, besides its message.
BYTES_PER_ERROR = 1_500
#: Locations of an error, at most.
MAX_LOCATIONS = 10
#: Characters of the longest document that is cached.
MAX_CACHED_CHARS = 16_384
#: Lines of the longest document whose errors have locations: finding lines is slow, and partly on the event loop.
MAX_LINES = 4_096
#: Errors after which validation stops.
MAX_VALIDATION_ERRORS = 5

# The budget for comparing fields, in graphql-core's units. Its default of ten times as much takes most of a second.
# Hundreds of fields in dozens of fragments stay below this one.
overlapping_fields_can_be_merged.MAX_COMPLEXITY_BUDGET = 50_000


V = TypeVar("V")


class RequestRefused(Exception):
    """A request that is not executed. `errors` go to the client."""

    def __init__(self, *errors: GraphQLError) -> None:
        super().__init__("; ".join(error.message for error in errors))
        self.errors = errors


class TooManyRequests(RequestRefused):
    """A request that is refused because its token has too much waiting. The client may send it again later."""


@dataclass(frozen=True, slots=True, eq=False)
class Operation:
    """One operation of a valid document, with the fragments that it spreads. Equal requests get the same object."""

    document: DocumentNode
    node: OperationDefinitionNode
    cost: Cost
    #: Tokens of the document's text, and one for each BYTES_PER_TOKEN of it, which stays in memory too.
    token_count: int
    #: Variables of a subscription on which its responses depend. Those of the root field's arguments do not count.
    response_variables: frozenset[str] = frozenset()
    #: Selections that executions of the operation share; None if variables decide what is selected.
    selection_cache: SelectionCache | None = None

    @property
    def kind(self) -> OperationType:
        """Query, mutation or subscription."""
        return self.node.operation


@dataclass(frozen=True, slots=True)
class _Document:
    """The operations of a document by name, or the errors for which it is refused."""

    #: Bytes of memory that the document takes in the cache, its text included. An estimate.
    weight: int
    operations: Mapping[str, Operation]
    errors: tuple[GraphQLError, ...] = ()


class _IndexedSource(Source):
    """A document whose line starts are found once. graphql-core's Source scans the document for each location."""

    def __init__(self, body: str) -> None:
        super().__init__(body)
        self._line_starts = [0, *(line_end.end() for line_end in re.finditer(r"\r\n|[\n\r]", body))]

    def get_location(self, position: int) -> SourceLocation:
        """Return the line and column of a position, both counted from 1."""
        line = bisect_right(self._line_starts, position)
        return SourceLocation(line, position - self._line_starts[line - 1] + 1)


#: The token that all locations name, so that the tokens of a document are not kept in memory.
_NO_TOKEN = Token(TokenKind.SOF, 0, 0, 0, 0)


class _CompactParser(Parser):
    """graphql-core's parser with smaller locations, which save 15 to 40 % of a document's memory.

    They hold no tokens, and a field without arguments shares the location of its name.
    """

    _last_location: Location | None = None

    def parse_document(self) -> DocumentNode:
        """Parse the document, then unlink its tokens, which are garbage: each refers to the ones beside it."""
        try:
            return super().parse_document()
        finally:
            token: Token | None = self._lexer.token
            while token is not None:
                previous = token.prev
                token.prev = token.next = None
                token = previous

    def loc(self, start_token: Token) -> Location | None:
        """Return the location of a node that starts at a token, by characters only."""
        location = super().loc(start_token)
        if location is None:
            return None
        location.start_token = location.end_token = _NO_TOKEN
        if location != self._last_location:
            self._last_location = location
        return self._last_location


class _Parsed(NamedTuple):
    """A document and the number of its tokens."""

    document: DocumentNode
    token_count: int


class Documents:
    """A cache of documents that are parsed and checked against one schema."""

    def __init__(self, schema: GraphQLSchema, limits: OperationLimits) -> None:
        self._schema = schema
        self._limits = limits
        self._cache: DocumentCache[_Document] = DocumentCache(CACHED_BYTES)
        self._queue: CheckQueue[Any] = CheckQueue(limits.body_bytes)
        self._running: dict[tuple[UUID | None, str], asyncio.Future[_Document]] = {}

    def close(self) -> None:
        """Stop the thread."""
        self._queue.close()

    async def operation(
        self, text: str, name: str | None, token_id: UUID | None = None, request_bytes: int = 0
    ) -> Operation:
        """Return the operation of a document, by name if it has several. Raises RequestRefused if it is invalid.

        A new document waits for its token's turn to be checked, with the request of `request_bytes` that it came in.
        Raises TooManyRequests if the token has too many waiting.
        """
        document = self._cache.get(text)
        if document is None:
            document = await self._check_in_thread(text, token_id, request_bytes)
        if document.errors:
            raise RequestRefused(*document.errors)
        if name is None:
            if len(document.operations) > 1:
                message = "The document has several operations. Set operationName to the name of one of them."
                raise RequestRefused(ApiError("BAD_REQUEST", message))
            return next(iter(document.operations.values()))
        operation = document.operations.get(name)
        if operation is None:
            raise RequestRefused(ApiError("BAD_REQUEST", "operationName must name one of the document's operations."))
        return operation

    async def run_in_thread(self, token_id: UUID, work: Callable[[], V]) -> V:
        """Run work in the thread that checks documents, in its token's turn. Raises ApiError if too much waits."""
        try:
            result: asyncio.Future[V] = self._queue.run(token_id, 0, partial(copy_context().run, work))
        except QueueFull as full:
            raise too_many_documents(self._limits) from full
        return await result

    async def _check_in_thread(self, text: str, token_id: UUID | None, request_bytes: int) -> _Document:
        # Requests share a check with those of their own token only: another token's turn may come much later.
        key = (token_id, text)
        check = self._running.get(key)
        if check is None:
            try:
                check = self._queue.run(token_id, request_bytes, partial(self._get_or_check, text))
            except QueueFull as full:
                raise TooManyRequests(too_many_documents(self._limits)) from full
            self._running[key] = check
            check.add_done_callback(lambda done: self._on_checked(text, token_id, done))
        # Other requests may wait for the same check, so cancelling one must not cancel it.
        return await asyncio.shield(check)

    def _on_checked(self, text: str, token_id: UUID | None, done: "asyncio.Future[_Document]") -> None:
        del self._running[token_id, text]
        if not done.cancelled() and done.exception() is None and len(text) <= MAX_CACHED_CHARS:
            self._cache.put(text, done.result(), token_id)

    def _get_or_check(self, text: str) -> _Document:
        """Return a document that was cached while its check waited, or check it."""
        return self._cache.peek(text) or self._check(text)

    def _check(self, text: str) -> _Document:
        try:
            document, token_count = self._parse(text)
        except GraphQLError as error:
            return _refuse(text, self._syntax_error(error))
        except RecursionError:
            return _refuse(text, too_deep(self._limits))
        try:
            check_shape(document, self._limits)
            errors = validate(
                self._schema,
                document,
                max_errors=MAX_VALIDATION_ERRORS,
                # "Did you mean …?" names parts of the schema, and compares names letter by letter, which is slow.
                hide_suggestions=not self._limits.introspection or len(text) > MAX_CACHED_CHARS,
            )
        except ApiError as refusal:
            # The traceback would keep the syntax tree in memory.
            return _refuse(text, refusal.with_traceback(None))
        except RecursionError:
            return _refuse(text, too_deep(self._limits))
        if errors:
            return _refuse(text, *map(_validation_error, errors))
        text_bytes = sys.getsizeof(text)
        weight = text_bytes + BYTES_PER_DOCUMENT + BYTES_PER_TOKEN * token_count
        return _Document(weight, self._make_operations(document, token_count + text_bytes // BYTES_PER_TOKEN))

    def _parse(self, text: str) -> _Parsed:
        tokens = self._limits.tokens
        has_locations = text.count("\n") + text.count("\r") <= MAX_LINES
        source = _IndexedSource(text) if has_locations else Source(text)
        parser = _CompactParser(source, no_location=not has_locations, max_lexical_tokens=tokens, max_comments=tokens)
        return _Parsed(parser.parse_document(), parser.token_count)

    def _syntax_error(self, error: GraphQLError) -> GraphQLError:
        if "contains more than" in error.message:
            allowed = self._limits.tokens
            message = f"The document has more than {allowed:,} tokens, the limit (RINGBACK_API_MAX_TOKENS)."
            return limit_exceeded("tokens", allowed, message)
        return mask_error(error, executing=False)

    def _make_operations(self, document: DocumentNode, token_count: int) -> dict[str, Operation]:
        costs = CostEstimator(self._schema, document)
        usage = VariableUsage(self._schema)
        operations = {}
        for name, part in separate_operations(document).items():
            node = next(node for node in part.definitions if isinstance(node, OperationDefinitionNode))
            cost = costs.estimate(node)
            response_variables: frozenset[str] = frozenset()
            if node.operation is OperationType.SUBSCRIPTION:
                response_variables = usage.below_root(part)
            selection_cache: SelectionCache | None = None
            if not usage.decides_selections(part):
                selection_cache = {}
            operations[name] = Operation(part, node, cost, token_count, response_variables, selection_cache)
        return operations


def _refuse(text: str, *errors: GraphQLError) -> _Document:
    weight = sys.getsizeof(text) + BYTES_PER_DOCUMENT
    for error in errors:
        weight += sys.getsizeof(error.message) + BYTES_PER_ERROR
    return _Document(weight, {}, errors)


def _validation_error(error: GraphQLError) -> GraphQLError:
    """Return a validation error as a client may see it, without its nodes."""
    if isinstance(error, ValidationAbortedError) and not error.message.startswith("Too many"):
        message = "Checking the document takes too long. Repeat fewer fields and fragments in it."
        return ApiError("LIMIT_EXCEEDED", message, limit="validation")
    error = mask_error(error, executing=False)
    # The nodes would keep the syntax tree in memory.
    without_nodes = GraphQLError(error.message, extensions=error.extensions)
    without_nodes.locations = error.locations and error.locations[:MAX_LOCATIONS]
    return without_nodes
