"""The Tortoise engine `ringback.models.sqlite`, as a Tortoise configuration names it."""

from ringback.models.database.sqlite import client_class

__all__ = ["client_class"]
