"""The Tortoise engine `ringback.models.postgres`, as a Tortoise configuration names it."""

from ringback.models.database.postgres import client_class

__all__ = ["client_class"]
