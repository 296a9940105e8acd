"""Documents: parsed, validated and cached.

Parsing and validation take three quarters of a small request's time, and seconds for a hostile document. So they run in
a thread of their own, to keep the event loop responsive, and results are cached, including refusals. Clients decide
which documents come, so the cache is limited.
"""

import asyncio
import re
from bisect import bisect_right
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from cachetools import LRUCache
from graphql import (
    DocumentNode,
    GraphQLError,
    GraphQLSchema,
    OperationDefinitionNode,
    OperationType,
    Source,
    SourceLocation,
    parse,
    separate_operations,
    validate,
)
from graphql.validation.rules import overlapping_fields_can_be_merged
from graphql.validation.validate import ValidationAbortedError

from ringback.graphql_api.errors import ApiError, mask_error
from ringback.graphql_api.execution.operation_limits import OperationLimits, limit_exceeded, too_deep
from ringback.graphql_api.execution.query_cost import Cost, CostEstimator
from ringback.graphql_api.execution.query_shape import check_shape
from ringback.graphql_api.execution.selections import SelectionCache
from ringback.graphql_api.execution.variable_usage import depends_on_variables, variables_below_root

#: Characters of all cached documents together. Syntax trees take up to 200 bytes per character, and the garbage
#: collector walks them.
CACHED_CHARS = 200_000
#: Characters added for each cached document: even short ones take a few kilobytes.
CHARS_PER_DOCUMENT = 500
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


class RequestRefused(Exception):
    """A request that is not executed. `errors` go to the client."""

    def __init__(self, *errors: GraphQLError) -> None:
        super().__init__("; ".join(error.message for error in errors))
        self.errors = errors


@dataclass(frozen=True, slots=True, eq=False)
class Operation:
    """One operation of a valid document, with the fragments that it spreads. Equal requests get the same object."""

    document: DocumentNode
    node: OperationDefinitionNode
    cost: Cost
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

    length: int
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


class Documents:
    """A cache of documents that are parsed and checked against one schema."""

    def __init__(self, schema: GraphQLSchema, limits: OperationLimits) -> None:
        self._schema = schema
        self._limits = limits
        self._cache: LRUCache[str, _Document] = LRUCache(CACHED_CHARS, getsizeof=_cache_weight)
        self._running: dict[str, asyncio.Future[_Document]] = {}
        self._thread = ThreadPoolExecutor(1, "graphql-documents")

    def close(self) -> None:
        """Stop the thread."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def operation(self, text: str, name: str | None) -> Operation:
        """Return the operation of a document, by name if it has several. Raises RequestRefused if it is invalid."""
        document = self._cache.get(text) or await self._check_in_thread(text)
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

    async def _check_in_thread(self, text: str) -> _Document:
        check = self._running.get(text)
        if check is None:
            loop = asyncio.get_running_loop()
            check = self._running[text] = loop.run_in_executor(self._thread, self._check, text)
            check.add_done_callback(lambda done: self._on_checked(text, done))
        # Other requests may wait for the same check, so cancelling one must not cancel it.
        return await asyncio.shield(check)

    def _on_checked(self, text: str, done: "asyncio.Future[_Document]") -> None:
        del self._running[text]
        if not done.cancelled() and done.exception() is None and len(text) <= MAX_CACHED_CHARS:
            self._cache[text] = done.result()

    def _check(self, text: str) -> _Document:
        try:
            document = self._parse(text)
        except GraphQLError as error:
            return _Document(len(text), {}, (self._syntax_error(error),))
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
            return _Document(len(text), {}, (refusal.with_traceback(None),))
        except RecursionError:
            return _Document(len(text), {}, (too_deep(self._limits),))
        if errors:
            return _Document(len(text), {}, tuple(map(_validation_error, errors)))
        return _Document(len(text), self._make_operations(document))

    def _parse(self, text: str) -> DocumentNode:
        tokens = self._limits.tokens
        if text.count("\n") + text.count("\r") > MAX_LINES:
            return parse(text, no_location=True, max_lexical_tokens=tokens, max_comments=tokens)
        return parse(_IndexedSource(text), max_lexical_tokens=tokens, max_comments=tokens)

    def _syntax_error(self, error: GraphQLError) -> GraphQLError:
        if "contains more than" in error.message:
            allowed = self._limits.tokens
            message = f"The document has more than {allowed:,} tokens, which is the limit."
            return limit_exceeded("tokens", allowed, message)
        if "nested too deeply" in error.message:
            return too_deep(self._limits)
        return mask_error(error, executing=False)

    def _make_operations(self, document: DocumentNode) -> dict[str, Operation]:
        costs = CostEstimator(self._schema, document)
        operations = {}
        for name, part in separate_operations(document).items():
            node = next(node for node in part.definitions if isinstance(node, OperationDefinitionNode))
            operations[name] = self._make_operation(part, node, costs.estimate(node))
        return operations

    def _make_operation(self, document: DocumentNode, node: OperationDefinitionNode, cost: Cost) -> Operation:
        response_variables: frozenset[str] = frozenset()
        if node.operation is OperationType.SUBSCRIPTION:
            response_variables = variables_below_root(self._schema, document)
        selection_cache: SelectionCache | None = None
        if not depends_on_variables(document):
            selection_cache = {}
        return Operation(document, node, cost, response_variables, selection_cache)


def _cache_weight(document: _Document) -> int:
    return document.length + CHARS_PER_DOCUMENT


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
