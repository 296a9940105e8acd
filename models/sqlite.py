"""The Tortoise engine `ringback.models.sqlite`: an import under the name that configurations use."""

from ringback.models.database.sqlite import client_class

__all__ = ["client_class"]
