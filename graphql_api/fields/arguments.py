"""From GraphQL inputs to the domain: which fields were given, and ids in queries."""

import dataclasses
import datetime as dt
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import strawberry
from strawberry import UNSET

from ringback.graphql_api.errors import bad_user_input
from ringback.graphql_api.fields.descriptions import optional_field
from ringback.models import ids
from ringback.models.database.sql import is_storable

#: The longest list and the longest text in a filter: databases limit a statement's parameters, and SQLite a pattern.
MAX_ENTRIES = 1_000
MAX_TEXT = 1_000
#: The longest that a column holds: Tortoise refuses to compare it with longer texts.
MAX_MODEL, MAX_OBJECT_ID = 100, 255


@strawberry.input
class Update:
    """Changes to a stored object; a field that is left out stays UNSET."""

    id: strawberry.ID
    expected_updated_at: dt.datetime | None = optional_field(
        "The `updatedAt` that you have seen; a CONFLICT when it was changed since.", UNSET
    )


def given_fields(value: Any) -> dict[str, Any]:
    """The fields of an input object that the client sent, null included, but for those that say which object."""
    fields = ((field.name, getattr(value, field.name)) for field in dataclasses.fields(value))
    return {name: v for name, v in fields if v is not UNSET and name not in ("id", "expected_updated_at")}


def or_none(value: Any) -> Any:
    """The value, or None where the client sent none."""
    return None if value is UNSET else value


def parse_query_id(prefix: str, text: str, argument: str = "id") -> UUID:
    """The key in an id that a query was given; raises a BAD_USER_INPUT error when it is malformed."""
    try:
        return ids.decode(prefix, text)
    except ValueError as error:
        raise bad_user_input(f"{argument}: {error}") from error


def parse_query_ids(prefix: str, texts: list[Any] | None, argument: str) -> frozenset[UUID] | None:
    """The keys in a filter's list of ids; raises a BAD_USER_INPUT error for malformed ones and for too many."""
    if texts is None:
        return None
    _check_length(texts, argument)
    return frozenset(parse_query_id(prefix, text, f"{argument}[{index}]") for index, text in enumerate(texts))


def check_query_text(text: str, argument: str, longest: int = MAX_TEXT) -> str:
    """A text in a filter; raises a BAD_USER_INPUT error for one that nothing stored can hold."""
    if len(text) > longest:
        raise bad_user_input(f"{argument}: has {len(text):,} characters; {longest:,} are allowed")
    if not is_storable(text):
        raise bad_user_input(f"{argument}: must not hold NUL or lone surrogate characters")
    return text


def check_query_models(names: list[str] | None) -> frozenset[str] | None:
    """A filter's list of model names; raises a BAD_USER_INPUT error as `check_query_text` does, and for too many."""
    if names is None:
        return None
    _check_length(names, "filter.models")
    return frozenset(check_query_text(name, f"filter.models[{index}]", MAX_MODEL) for index, name in enumerate(names))


def _check_length(values: Sequence[Any], argument: str) -> None:
    if len(values) > MAX_ENTRIES:
        raise bad_user_input(f"{argument}: has {len(values):,} entries; {MAX_ENTRIES:,} are allowed")


def check_range(after: dt.datetime | None, before: dt.datetime | None, argument: str) -> None:
    """Raises a BAD_USER_INPUT error for a range of time that ends before it begins; `argument` names its two ends."""
    if after is not None and before is not None and after >= before:
        raise bad_user_input(f"{argument}After must be before {argument}Before.")
