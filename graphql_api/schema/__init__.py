"""The GraphQL schema, one module per kind of object, named as in `models.services`."""
