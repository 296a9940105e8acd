"""Access to graphql-core's schema, for which Strawberry has no public API."""

import strawberry
from graphql import GraphQLSchema


def core_schema(schema: strawberry.Schema) -> GraphQLSchema:
    """Return the schema that graphql-core validates and executes."""
    return schema._schema
