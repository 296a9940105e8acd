"""What is wrong where: jsonschema-rs' errors in plain words, so that a person knows what to mend.

Its own messages quote the whole instance; these quote the schema alone, and only the start of it.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from types import NoneType
from typing import Any, TypeAlias

from jsonschema_rs import ValidationError

from ringback.models.templates.formatting import path_text

#: Names and indexes from the top of a JSON value.
Path: TypeAlias = tuple[str | int, ...]

#: Unexpected fields that are named one by one.
_MANY = 10
#: Longest path that is told, in characters: names are the client's own.
_MAX_PATH = 500
_NAMES = {
    "null": "null",
    "boolean": "a boolean",
    "integer": "a whole number",
    "number": "a number",
    "string": "a string",
    "array": "a list",
    "object": "an object",
}
#: The JSON types of Python values; those of whole numbers, which are numbers too, depend on who asks.
JSON_TYPES: dict[type, str] = {
    NoneType: "null",
    bool: "boolean",
    float: "number",
    str: "string",
    list: "array",
    dict: "object",
}
#: What to say of a value that breaks a keyword, with the details of jsonschema-rs.
_SENTENCES = {
    "minimum": "must be at least {limit}",
    "maximum": "must be at most {limit}",
    "exclusiveMinimum": "must be more than {limit}",
    "exclusiveMaximum": "must be less than {limit}",
    "multipleOf": "must be a multiple of {multiple_of}",
    "minLength": "must have at least {limit} characters",
    "maxLength": "must have at most {limit} characters",
    "pattern": "must match the pattern {pattern:.200}",
    "format": "not a valid {format:.50}",
    "minItems": "must have at least {limit} elements",
    "maxItems": "must have at most {limit} elements",
    "uniqueItems": "must not hold the same element twice",
    "contains": "must have as many elements as the schema's `contains` asks for",
    "minProperties": "must have at least {limit} fields",
    "maxProperties": "must have at most {limit} fields",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong; `is_limit` tells that it is too much of something."""

    path: Path
    message: str
    is_limit: bool = False


def quote_path(path: Path) -> str:
    """A path as it goes on from the name of a JSON value: `.lines[2]["unit price"]`."""
    return path_text(["", *path])[:_MAX_PATH]


def findings_of(error: ValidationError) -> Iterator[Finding]:
    """An error of jsonschema-rs as findings: one, or as many as there are fields to name."""
    path, kind = tuple(error.instance_path), error.kind
    name = kind.name
    details: dict[str, Any] = kind.as_dict()
    if name in ("anyOf", "oneOf") and "context" in details:
        yield from _of_alternatives(error, details["context"])
    elif name == "required":
        yield Finding((*path, str(details["property"])), "is missing")
    elif name in ("additionalProperties", "unevaluatedProperties"):
        yield from _of_unexpected(path, details["unexpected"])
    elif name == "falseSchema":
        yield Finding(path, _forbidden(path, error.schema_path[-1:]))
    elif name == "propertyNames":
        inner = next(findings_of(details["error"]))
        yield Finding(path, f"has a field whose name is not allowed: the name {inner.message}")
    else:
        yield Finding(path, _sentence(name, details, error.instance))


def _of_unexpected(path: Path, names: list[Any]) -> Iterator[Finding]:
    yield from (Finding((*path, one), "not a field of this model") for one in names[:_MANY])
    if len(names) > _MANY:
        yield Finding(path, f"{len(names) - _MANY:,} more are no fields of this model")


def _forbidden(path: Path, keyword: list[str | int]) -> str:
    """What the schema `false` means, by where it stands."""
    if keyword in (["additionalProperties"], ["propertyNames"]):
        return "must have no fields"
    return "not a field of this model" if path and isinstance(path[-1], str) else "not allowed by the schema"


def _of_alternatives(error: ValidationError, branches: list[list[ValidationError]]) -> Iterator[Finding]:
    """Nearly always one alternative was meant: the one that the value's type does not rule out."""
    path = tuple(error.instance_path)
    meant = [branch for branch in branches if not _is_of_another_type(branch, path)]
    if len(meant) == 1:
        for inner in meant[0]:
            yield from findings_of(inner)
    elif not meant and branches:
        types = [one for branch in branches for inner in branch[:1] for one in inner.kind.as_dict()["types"]]
        yield Finding(path, _not_of(types, error.instance))
    elif error.kind.name == "oneOf" and any(not branch for branch in branches):
        yield Finding(path, "fits more than one of the alternatives of which the schema allows one")
    else:
        yield Finding(path, f"fits none of the {len(branches)} alternatives that the schema allows")


def _is_of_another_type(branch: list[ValidationError], path: Path) -> bool:
    return bool(branch) and branch[0].kind.name == "type" and tuple(branch[0].instance_path) == path


def _sentence(keyword: str, details: dict[str, Any], instance: Any) -> str:
    match keyword:
        case "type":
            return _not_of(list(details["types"]), instance)
        case "enum":
            return f"must be one of {_quoted(details['options'])}"
        case "const":
            return f"must be {_quoted(details['expected_value'])}"
    if keyword in _SENTENCES:
        return _SENTENCES[keyword].format(**details)
    return f"not what the schema's `{keyword}` allows"


def _not_of(types: list[str], instance: Any) -> str:
    wanted = list(dict.fromkeys(_NAMES.get(one, one) for one in types))
    listed = " or ".join([", ".join(wanted[:-1]), wanted[-1]] if len(wanted) > 1 else wanted)
    return f"not {listed}, but {_NAMES[JSON_TYPES.get(type(instance), 'number')]}"


def _quoted(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str).removeprefix("[").removesuffix("]")
    return text if len(text) <= 200 else f"{text[:200]}…"
