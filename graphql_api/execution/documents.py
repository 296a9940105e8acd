"""Documents: what clients send, parsed, checked and remembered.

Parsing and validating takes three quarters of a small request's time, and seconds for a hostile one. So both happen in
a thread of their own, which leaves the event loop its turns, and what came out is remembered, within bounds: clients
decide what is sent. What is refused is remembered too.
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
from ringback.graphql_api.execution.selections import Kept
from ringback.graphql_api.execution.variable_usage import depends_on_variables, variables_below_root

#: Characters of all cached documents together. Syntax trees take up to 200 bytes for each, and the garbage collector
#: has to walk them.
CACHED_CHARS = 200_000
#: Characters that each document counts besides its own: short ones take a few kilobytes too.
CHARS_PER_DOCUMENT = 500
#: An error says at most so many places.
MAX_LOCATIONS = 10
#: The longest document that is remembered, in characters.
MAX_CACHED_CHARS = 16_384
#: In a document of more lines than this, errors of validation and execution do not say where they are: finding the line
#: of each takes time, and some are found on the event loop.
MAX_LINES = 4_096
#: Validation stops after so many errors.
MAX_VALIDATION_ERRORS = 5

#: What comparing the fields of a document with each other may cost, in graphql-core's units: a tenth of its own limit,
#: which takes most of a second. Hundreds of fields in dozens of fragments stay below it.
overlapping_fields_can_be_merged.MAX_COMPLEXITY_BUDGET = 50_000


class RequestRefused(Exception):
    """A request is not executed; `errors` go to the client."""

    def __init__(self, *errors: GraphQLError) -> None:
        super().__init__("; ".join(error.message for error in errors))
        self.errors = errors


@dataclass(frozen=True, slots=True, eq=False)
class Operation:
    """One operation of a valid document, with the fragments that it spreads; the same request gives the same object."""

    document: DocumentNode
    node: OperationDefinitionNode
    cost: Cost
    #: The variables on which the answers of a subscription depend, besides what happened.
    told_by: frozenset[str] = frozenset()
    #: What its executions made of its selections; None where variables decide what is selected.
    kept: Kept | None = None

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


class _Text(Source):
    """A document that is read once for its lines, not from its beginning for each error."""

    def __init__(self, body: str) -> None:
        super().__init__(body)
        self._beginnings = [0, *(end.end() for end in re.finditer(r"\r\n|[\n\r]", body))]

    def get_location(self, position: int) -> SourceLocation:
        """The line and column of a position, both counted from 1."""
        line = bisect_right(self._beginnings, position)
        return SourceLocation(line, position - self._beginnings[line - 1] + 1)


class Documents:
    """Parses and checks documents against one schema."""

    def __init__(self, schema: GraphQLSchema, limits: OperationLimits) -> None:
        self._schema = schema
        self._limits = limits
        self._known: LRUCache[str, _Document] = LRUCache(
            CACHED_CHARS, getsizeof=lambda document: document.length + CHARS_PER_DOCUMENT
        )
        self._under_way: dict[str, asyncio.Future[_Document]] = {}
        self._thread = ThreadPoolExecutor(1, "graphql-documents")

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def operation(self, text: str, name: str | None) -> Operation:
        """The operation that a request means; raises Refused for a document that cannot be executed."""
        document = self._known.get(text) or await self._checked(text)
        if document.errors:
            raise RequestRefused(*document.errors)
        if name is None:
            if len(document.operations) > 1:
                message = "The document has several operations: say by operationName which one to run."
                raise RequestRefused(ApiError("BAD_REQUEST", message))
            return next(iter(document.operations.values()))
        operation = document.operations.get(name)
        if operation is None:
            raise RequestRefused(ApiError("BAD_REQUEST", "operationName must name one of the document's operations."))
        return operation

    async def _checked(self, text: str) -> _Document:
        under_way = self._under_way.get(text)
        if under_way is None:
            loop = asyncio.get_running_loop()
            under_way = self._under_way[text] = loop.run_in_executor(self._thread, self._check, text)
            under_way.add_done_callback(lambda done: self._remember(text, done))
        # Others may wait for the same document: one that goes away does not take it along.
        return await asyncio.shield(under_way)

    def _remember(self, text: str, done: "asyncio.Future[_Document]") -> None:
        del self._under_way[text]
        if not done.cancelled() and done.exception() is None and len(text) <= MAX_CACHED_CHARS:
            self._known[text] = done.result()

    def _check(self, text: str) -> _Document:
        tokens, lines = self._limits.tokens, text.count("\n") + text.count("\r")
        source = _Text(text) if lines <= MAX_LINES else text
        try:
            document = parse(source, no_location=lines > MAX_LINES, max_lexical_tokens=tokens, max_comments=tokens)
        except GraphQLError as error:
            return _Document(len(text), {}, (self._unreadable(error),))
        try:
            check_shape(document, self._limits)
            errors = validate(
                self._schema,
                document,
                max_errors=MAX_VALIDATION_ERRORS,
                # "Did you mean …?" compares names letter by letter.
                hide_suggestions=len(text) > MAX_CACHED_CHARS,
            )
        except ApiError as refusal:
            # Without its frames, which would keep the whole syntax tree.
            return _Document(len(text), {}, (refusal.with_traceback(None),))
        except RecursionError:
            return _Document(len(text), {}, (too_deep(self._limits),))
        if errors:
            return _Document(len(text), {}, tuple(map(_invalid, errors)))
        return _Document(len(text), self._operations(document))

    def _unreadable(self, error: GraphQLError) -> GraphQLError:
        if "contains more than" in error.message:
            allowed = self._limits.tokens
            return limit_exceeded(
                "tokens", allowed, f"The document has more than {allowed:,} tokens, which is the limit."
            )
        if "nested too deeply" in error.message:
            return too_deep(self._limits)
        return mask_error(error, executing=False)

    def _operations(self, document: DocumentNode) -> dict[str, Operation]:
        operations = {}
        costs = CostEstimator(self._schema, document)
        for name, part in separate_operations(document).items():
            node = next(d for d in part.definitions if isinstance(d, OperationDefinitionNode))
            told_by: frozenset[str] = frozenset()
            if node.operation is OperationType.SUBSCRIPTION:
                told_by = variables_below_root(self._schema, part)
            kept: Kept | None = None if depends_on_variables(part) else {}
            operations[name] = Operation(part, node, costs.of(node), told_by, kept)
        return operations


def _invalid(error: GraphQLError) -> GraphQLError:
    """An error of validation; one without nodes says that it was not finished."""
    if isinstance(error, ValidationAbortedError) and not error.message.startswith("Too many"):
        message = "Checking the document takes too long: repeat fewer fields and fragments in it."
        return ApiError("LIMIT_EXCEEDED", message, limit="validation")
    error = mask_error(error, executing=False)
    # Without the nodes, which would keep the whole syntax tree.
    plain = GraphQLError(error.message, extensions=error.extensions)
    plain.locations = error.locations and error.locations[:MAX_LOCATIONS]
    return plain
