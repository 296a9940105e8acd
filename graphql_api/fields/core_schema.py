"""The one place that reaches graphql-core's schema behind Strawberry's, which has no public way to it."""

import strawberry
from graphql import GraphQLSchema


def core_schema(schema: strawberry.Schema) -> GraphQLSchema:
    """Return the schema that graphql-core validates and executes."""
    return schema._schema
