"""Extensions of Strawberry's own execution, which WebSockets still use.

NamedOperation: which operation of a document is meant (GraphQL specification, 6.1); Strawberry would take the first of
several. CachedDocuments: parsing with a limit of tokens, and a memory for short documents.
"""

from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from typing import Any

from graphql import DocumentNode, GraphQLError, GraphQLSchema, OperationDefinitionNode, parse, validate
from strawberry.extensions import SchemaExtension

from ringback.graphql_api.errors import ApiError

#: The longest document; parsing and validating one of this length takes some tenths of a second.
MAX_TOKENS = 10_000
#: Documents that are remembered, and the longest of them, in characters: together some tens of megabytes at worst.
CACHED_DOCUMENTS = 256
MAX_CACHED_CHARS = 8_192


class CachedDocuments(SchemaExtension):
    """Parses with a limit of tokens, and remembers the syntax trees of short documents and that they are valid."""

    def on_parse(self) -> Iterator[None]:
        """What does not parse is left to Strawberry, which parses it once more and reports it."""
        context = self.execution_context
        context.parse_options["max_tokens"] = MAX_TOKENS
        if context.query is not None and len(context.query) <= MAX_CACHED_CHARS:
            with suppress(GraphQLError):
                context.graphql_document = _parsed(context.query)
        yield

    def on_validate(self) -> Iterator[None]:
        """What is not remembered is left to Strawberry."""
        context = self.execution_context
        if (
            context.query is not None
            and len(context.query) <= MAX_CACHED_CHARS
            and context.graphql_document is not None
        ):
            schema: Any = context.schema
            context.pre_execution_errors = list(_validated(schema._schema, context.graphql_document))
        yield


@lru_cache(CACHED_DOCUMENTS)
def _parsed(document: str) -> DocumentNode:
    return parse(document, max_tokens=MAX_TOKENS)


@lru_cache(CACHED_DOCUMENTS)
def _validated(schema: GraphQLSchema, document: DocumentNode) -> tuple[GraphQLError, ...]:
    return tuple(validate(schema, document))


class NamedOperation(SchemaExtension):
    """Refuses a document of several operations that is sent without operationName."""

    def on_validate(self) -> Iterator[None]:
        """When the document is known; whether it is valid in itself does not matter then."""
        context = self.execution_context
        definitions = context.graphql_document.definitions if context.graphql_document is not None else ()
        operations = sum(isinstance(definition, OperationDefinitionNode) for definition in definitions)
        if operations > 1 and context._provided_operation_name is None:
            message = "The document has several operations: say by operationName which one to run."
            context.pre_execution_errors = [ApiError("BAD_REQUEST", message)]
        yield
