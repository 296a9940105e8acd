"""The settings: one frozen object, read from the environment once, with every value checked."""

from ringback.models.settings.fields import MAX_CONCURRENCY, Settings
from ringback.models.settings.loading import find_unknown_variables, load_settings
from ringback.models.settings.values import Network

__all__ = ["MAX_CONCURRENCY", "Network", "Settings", "find_unknown_variables", "load_settings"]
