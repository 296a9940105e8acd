"""Runs GraphQL operations: parsing, limits, cost, the executor, and subscriptions."""
