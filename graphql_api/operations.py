"""Which operation of a document is meant (GraphQL specification, 6.1): Strawberry would take the first of several."""

from collections.abc import Iterator

from graphql import OperationDefinitionNode
from strawberry.extensions import SchemaExtension

from ringback.graphql_api.errors import ApiError


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
