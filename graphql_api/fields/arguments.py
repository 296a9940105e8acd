"""Conversion of arguments: the fields that an update gives, and the ids, texts and times of queries."""

import dataclasses
import datetime as dt
from collections.abc import Sequence
from typing import Any, TypeVar
from uuid import UUID

import strawberry
from strawberry import UNSET

from ringback.graphql_api.errors import bad_user_input
from ringback.graphql_api.fields.descriptions import optional_field
from ringback.models import ids
from ringback.models.database.sql import is_storable

T = TypeVar("T")

#: Maximum number of entries of a list in a filter: databases limit the parameters of a statement.
MAX_ENTRIES = 1_000
#: Maximum number of characters of a search text.
MAX_TEXT = 1_000
#: Maximum number of characters that these columns hold: Tortoise refuses to compare them with longer texts.
MAX_MODEL, MAX_OBJECT_ID = 100, 255


@strawberry.input
class Update:
    """Changes to a stored object. A field that the client leaves out is UNSET."""

    id: strawberry.ID
    expected_updated_at: dt.datetime | None = optional_field(
        "`updatedAt` of the object as last read. If the object has changed since, the update fails with CONFLICT. "
        "Example: `2026-01-31T12:00:00.000000Z`.",
        UNSET,
    )


def given_fields(input: Any) -> dict[str, Any]:
    """Return the fields of an input that are not UNSET, null included, without `id` and `expected_updated_at`."""
    values: dict[str, Any] = {}
    for field in dataclasses.fields(input):
        value = getattr(input, field.name)
        if value is not UNSET and field.name not in ("id", "expected_updated_at"):
            values[field.name] = value
    return values


def or_none(value: T | None) -> T | None:
    """Return a value of an input, or None if the client left it out."""
    return None if value is UNSET else value


def parse_query_id(prefix: str, text: str, argument: str = "id") -> UUID:
    """Return the key of an id in a query. Raises BAD_USER_INPUT if the id is malformed or of another kind."""
    try:
        return ids.decode(prefix, text)
    except ValueError as error:
        raise bad_user_input(f"{argument}: {error}") from error


def parse_query_ids(prefix: str, texts: Sequence[str] | None, argument: str) -> frozenset[UUID] | None:
    """Return the keys of a list of ids in a filter. Raises BAD_USER_INPUT if one is malformed, or the list too long."""
    if texts is None:
        return None
    _check_length(texts, argument)
    return frozenset(parse_query_id(prefix, text, f"{argument}[{index}]") for index, text in enumerate(texts))


def check_query_models(names: Sequence[str] | None) -> frozenset[str] | None:
    """Return the model names of a filter. Raises BAD_USER_INPUT if one cannot be a name, or the list is too long."""
    if names is None:
        return None
    _check_length(names, "filter.models")
    return frozenset(check_query_text(name, f"filter.models[{index}]", MAX_MODEL) for index, name in enumerate(names))


def check_query_text(text: str, argument: str, max_length: int = MAX_TEXT) -> str:
    """Return a text of a filter. Raises BAD_USER_INPUT if it is too long or no database can store it."""
    if len(text) > max_length:
        raise bad_user_input(f"{argument} has {len(text):,} characters. Enter at most {max_length:,}.")
    if not is_storable(text):
        raise bad_user_input(f"{argument} contains a NUL or lone surrogate character. Remove it.")
    return text


def check_range(after: dt.datetime | None, before: dt.datetime | None, argument: str) -> None:
    """Raise BAD_USER_INPUT if a time range is empty. `argument` is the prefix that its two arguments share."""
    if after is not None and before is not None and after >= before:
        raise bad_user_input(f"{argument}After must be before {argument}Before.")


def _check_length(entries: Sequence[str], argument: str) -> None:
    if len(entries) > MAX_ENTRIES:
        raise bad_user_input(f"{argument} has {len(entries):,} entries. Enter at most {MAX_ENTRIES:,}.")
