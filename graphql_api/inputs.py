"""From GraphQL inputs to the domain: which fields were given, and ids in queries."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID

from ringback.graphql_api.errors import bad_user_input
from ringback.models import ids
from strawberry import UNSET


def given(value: Any, *, without: Iterable[str] = (), renamed: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The fields of an input object that the client sent, null included; `renamed` gives some the domain's name."""
    renamed = renamed or {}
    skipped = {"id", "expected_updated_at", *without}
    fields = ((field.name, getattr(value, field.name)) for field in dataclasses.fields(value))
    return {renamed.get(name, name): v for name, v in fields if v is not UNSET and name not in skipped}


def or_none(value: Any) -> Any:
    """The value, or None where the client sent none."""
    return None if value is UNSET else value


def query_key(prefix: str, text: str, argument: str = "id") -> UUID:
    """The key in an id that a query was given; raises a BAD_USER_INPUT error when it is malformed."""
    try:
        return ids.decode(prefix, text)
    except ValueError as error:
        raise bad_user_input(f"{argument}: {error}") from error


def query_keys(prefix: str, texts: list[Any], argument: str) -> list[UUID]:
    """The keys in a filter's list of ids."""
    return [query_key(prefix, text, f"{argument}[{index}]") for index, text in enumerate(texts)]
