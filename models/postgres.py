"""The Tortoise engine `ringback.models.postgres`: an import under the name that configurations use."""

from ringback.models.database.postgres import client_class

__all__ = ["client_class"]
