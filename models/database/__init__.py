"""Tortoise ORM integration: SQLite and Postgres clients, transactions, SQL helpers, commit notifications."""
