"""Reading the settings from the environment, with all mistakes reported in one line."""

import os
from typing import Any

from annotated_types import Ge, Le
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from ringback.models.errors import ConfigurationError
from ringback.models.settings.environment import describe_misspellings, unknown_variables, variable_name
from ringback.models.settings.fields import Settings


def load_settings(**overrides: Any) -> Settings:
    """Read the settings. Overrides, such as command-line options, take precedence over the environment.

    An override of None means that it is not given. Raises ConfigurationError with one line that names each invalid or
    misspelled variable and its problem.
    """
    given = {name: value for name, value in overrides.items() if value is not None}
    problems = list(describe_misspellings(find_unknown_variables(), Settings.model_fields))
    try:
        loaded = Settings(**given)
    except ValidationError as error:
        problems += [_describe(details) for details in error.errors()]
        raise ConfigurationError(" ".join(problems)) from error
    if problems:
        raise ConfigurationError(" ".join(problems))
    return loaded


def find_unknown_variables() -> list[str]:
    """Return the environment variables named RINGBACK_… that are not settings, except those
    of the examples, the tests and Kubernetes.
    """
    return unknown_variables(os.environ, Settings.model_fields)


def _describe(details: ErrorDetails) -> str:
    """Return the message of a validator, or one for a value that pydantic itself refuses."""
    if details["type"] == "value_error":
        return str(details["ctx"]["error"])
    name = str(details["loc"][0])
    allowed = _allowed_values(name)
    advice = f"Set it to {allowed}" if allowed else str(details["msg"])
    return f"{variable_name(name)} is {details['input']}. {advice}."


def _allowed_values(name: str) -> str | None:
    """Return in words which values a number, a switch or the log level may have. None for settings that hold text."""
    if name == "log_level":
        return "DEBUG, INFO, WARNING or ERROR"
    field = Settings.model_fields[name]
    if field.annotation is bool:
        return "true or false"
    limits = {type(limit): limit for limit in field.metadata}
    if Ge not in limits:
        return None
    number = "a whole number" if field.annotation is int else "a number"
    if Le in limits:
        return f"{number} from {limits[Ge].ge} to {limits[Le].le}"
    return f"{number} that is at least {limits[Ge].ge}"
