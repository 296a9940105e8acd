"""Findings: jsonschema-rs' errors as messages that say where a value is wrong and how.

jsonschema-rs' own messages quote the whole value. These quote only the schema, and only a part of it.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import NoneType
from typing import Any, TypeAlias

from jsonschema_rs import ValidationError

from ringback.models.templates.formatting import format_path

#: Names and indexes from the root of a JSON value.
Path: TypeAlias = tuple[str | int, ...]

#: Unexpected fields of one value that are listed by name.
_MAX_LISTED_FIELDS = 10
#: Longest path in a message, in characters: the names in it come from the client.
_MAX_PATH_CHARS = 500
#: Longest value of a schema in a message, in characters.
_MAX_VALUE_CHARS = 200

#: JSON types in messages.
_TYPE_NAMES = {
    "null": "null",
    "boolean": "a boolean",
    "integer": "an integer",
    "number": "a number",
    "string": "a string",
    "array": "an array",
    "object": "an object",
}
#: JSON types of Python types. int is left out, because it is both an integer and a number.
JSON_TYPES: dict[type, str] = {
    NoneType: "null",
    bool: "boolean",
    float: "number",
    str: "string",
    list: "array",
    dict: "object",
}
#: Messages by keyword, filled in with the details that jsonschema-rs reports.
_MESSAGES = {
    "minimum": "must be at least {limit}",
    "maximum": "must be at most {limit}",
    "exclusiveMinimum": "must be more than {limit}",
    "exclusiveMaximum": "must be less than {limit}",
    "multipleOf": "must be a multiple of {multiple_of}",
    "minLength": "must have at least {limit} characters",
    "maxLength": "must have at most {limit} characters",
    "pattern": "must match the pattern {pattern:.200}",
    "format": "must be a valid {format:.50}",
    "minItems": "must have at least {limit} elements",
    "maxItems": "must have at most {limit} elements",
    "uniqueItems": "must not contain the same element twice",
    "contains": "has too few or too many elements that match the schema's `contains`",
    "minProperties": "must have at least {limit} fields",
    "maxProperties": "must have at most {limit} fields",
}
_UNKNOWN_FIELD = "is not a field of this model"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong with a JSON value.

    `message` says it of the value at `path`, which is its subject, and has no full stop at its end: "must be at least
    0". `is_limit` marks a value that exceeds a limit of Ringback.
    """

    path: Path
    message: str
    is_limit: bool = False


def quote_path(path: Path) -> str:
    """Return a path as it continues the name of a JSON value: `.lines[2]["unit price"]`."""
    return format_path(["", *path])[:_MAX_PATH_CHARS]


def describe_error(error: ValidationError) -> Iterator[Finding]:
    """Yield the findings of one jsonschema-rs error: several if it concerns several fields."""
    path, keyword = tuple(error.instance_path), error.kind.name
    details: dict[str, Any] = error.kind.as_dict()
    if keyword in ("anyOf", "oneOf") and "context" in details:
        yield from _describe_alternatives(error, details["context"])
    elif keyword == "required":
        yield Finding((*path, str(details["property"])), "is missing")
    elif keyword in ("additionalProperties", "unevaluatedProperties"):
        yield from _describe_unexpected(path, details["unexpected"])
    elif keyword == "falseSchema":
        yield Finding(path, _forbidden_message(path, error.schema_path[-1:]))
    elif keyword == "propertyNames":
        finding = next(describe_error(details["error"]))
        yield Finding(path, f"has a field with an invalid name: the name {finding.message}")
    else:
        yield Finding(path, _message(keyword, details, error.instance))


def _describe_alternatives(error: ValidationError, branches: list[list[ValidationError]]) -> Iterator[Finding]:
    """Yield the findings of the alternative that was probably meant: the only one that allows the value's type."""
    path = tuple(error.instance_path)
    candidates = [branch for branch in branches if not _excludes_type(branch, path)]
    if len(candidates) == 1:
        for branch_error in candidates[0]:
            yield from describe_error(branch_error)
    elif not candidates and branches:
        yield Finding(path, _type_message(_types_of_branches(branches), error.instance))
    elif error.kind.name == "oneOf" and any(not branch for branch in branches):
        yield Finding(path, "matches more than one alternative of the schema's `oneOf`, but must match exactly one")
    else:
        yield Finding(path, f"matches none of the schema's {len(branches)} alternatives")


def _describe_unexpected(path: Path, names: list[Any]) -> Iterator[Finding]:
    for name in names[:_MAX_LISTED_FIELDS]:
        yield Finding((*path, name), _UNKNOWN_FIELD)
    if len(names) > _MAX_LISTED_FIELDS:
        yield Finding(path, f"has {len(names) - _MAX_LISTED_FIELDS:,} more fields that this model does not have")


def _forbidden_message(path: Path, keyword: list[str | int]) -> str:
    """Return the message for the schema `false`, which depends on the keyword that holds it."""
    if keyword in (["additionalProperties"], ["propertyNames"]):
        return "must have no fields"
    if path and isinstance(path[-1], str):
        return _UNKNOWN_FIELD
    return "is not allowed by the schema"


def _message(keyword: str, details: dict[str, Any], instance: Any) -> str:
    match keyword:
        case "type":
            return _type_message(details["types"], instance)
        case "enum":
            return f"must be one of {_quote_value(details['options'])}"
        case "const":
            return f"must be {_quote_value(details['expected_value'])}"
    if keyword in _MESSAGES:
        return _MESSAGES[keyword].format(**details)
    return f"is not allowed by the schema's `{keyword}`"


def _type_message(types: Iterable[str], instance: Any) -> str:
    expected = list(dict.fromkeys(_TYPE_NAMES.get(name, name) for name in types))
    listed = expected[-1]
    if len(expected) > 1:
        listed = f"{', '.join(expected[:-1])} or {listed}"
    return f"must be {listed}, not {_name_type(instance)}"


def _name_type(instance: Any) -> str:
    if isinstance(instance, float):
        return "a decimal number"  # "must be an integer, not a number" would puzzle
    return _TYPE_NAMES[JSON_TYPES.get(type(instance), "number")]


def _excludes_type(branch: list[ValidationError], path: Path) -> bool:
    return bool(branch) and branch[0].kind.name == "type" and tuple(branch[0].instance_path) == path


def _types_of_branches(branches: list[list[ValidationError]]) -> list[str]:
    types: list[str] = []
    for branch in branches:
        for error in branch[:1]:
            types += error.kind.as_dict()["types"]
    return types


def _quote_value(value: Any) -> str:
    """Return a value of the schema as JSON, cut to a length that fits a message. A list loses its brackets."""
    text = json.dumps(value, ensure_ascii=False, default=str).removeprefix("[").removesuffix("]")
    if len(text) <= _MAX_VALUE_CHARS:
        return text
    return f"{text[:_MAX_VALUE_CHARS]}…"
