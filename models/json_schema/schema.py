"""A JSON Schema ready for use: its validator, its fields, and what it may cost; and the cache of them.

Formats are checked, not only noted: a schema that says `date-time` means it. Patterns are regular expressions of Rust's
`regex`, which knows neither look-around nor back-references and therefore always ends.
"""

from collections.abc import Iterator
from itertools import chain, islice
from threading import Lock
from typing import Any

import orjson
from cachetools import LRUCache, cached
from jsonschema_rs import Draft202012Validator, RegexOptions, ValidationError

from ringback.models.json_schema.field_paths import fields_of
from ringback.models.json_schema.findings import Finding, findings_of
from ringback.models.json_schema.subschemas import DRAFT, SchemaFault, SubschemaGraph
from ringback.models.json_schema.validation_cost import looks_by_depth

MAX_SCHEMA_BYTES = 256 * 1024
MAX_ITEM_BYTES = 256 * 1024
#: Most findings for one schema or item.
MAX_FINDINGS = 100
#: Looks at values for which an item is still checked: about a quarter of a second.
MAX_LOOKS = 5_000_000
#: Looks for which, in one call, it is told where items do not fit: it takes a hundred times as long as to see that.
MAX_CHECK_BUDGET = 50_000
#: Memory of all patterns of a schema together, and of one of them at most, in bytes.
_PATTERNS_BYTES, _PATTERN_BYTES = 128 * 2**20, 6 * 2**20
#: Source text of the schemas that the cache holds, in characters. An entry counts as its text and 100 characters more.
_CACHE_CHARACTERS, _ENTRY_CHARACTERS = 4 * 2**20, 100

_METASCHEMA = Draft202012Validator({"$ref": DRAFT}, offline=True)


class CheckBudget:
    """How much may still be spent, within one call, on telling where items do not fit."""

    def __init__(self) -> None:
        self._left = MAX_CHECK_BUDGET

    def spend(self, looks: int) -> bool:
        """Take so much of it; False when there is not enough left."""
        self._left -= looks
        return self._left >= 0


class JsonSchema:
    """A schema that Ringback has accepted, compiled; raises SchemaFault for any other."""

    def __init__(self, schema: dict[str, Any], characters: int = 0) -> None:
        graph = SubschemaGraph(schema)
        #: Length of the stored text.
        self.characters = characters
        self._looks = looks_by_depth(graph)
        self._validator = _validator(graph)
        #: What templates may use.
        self.fields = tuple(fields_of(graph))
        #: The fields of an item itself.
        self.names = frozenset(
            name
            for node in graph.together(schema)
            for name, child in node.get("properties", {}).items()
            if child is not False
        )
        #: Whether an item may have others.
        self.is_open = any(one.path == "item.*" for one in self.fields)

    def check(self, item: Any, size: int, patience: CheckBudget) -> list[Finding]:
        """Where an item does not fit, empty when it does; `size` is that of its JSON, in bytes."""
        # No value takes less than two bytes of JSON. Most schemas are so plain that this settles it.
        if size // 2 * self._looks[-1] > MAX_LOOKS and self._looks_at(item) > MAX_LOOKS:
            return [Finding((), "is too large, or nested too deeply, to be checked by its schema", is_limit=True)]
        if self._validator.is_valid(item):
            return []
        if not patience.spend(self._looks_at(item)):
            return [Finding((), "does not fit the schema; the input is too large to tell where")]
        return list(_bounded(self._validator.iter_errors(item)))

    def _looks_at(self, item: Any) -> int:
        """Return the most looks at values that a check of `item` takes."""
        values, depth = _extent(item)
        return values * self._looks[min(depth, len(self._looks) - 1)]


def check_schema(schema: Any) -> JsonSchema:
    """A schema as a person wrote it, compiled; raises SchemaFault with all that is wrong with it."""
    if not isinstance(schema, dict):
        raise SchemaFault(Finding((), 'must be an object, such as {"type": "object", "properties": {…}}'))
    try:
        size = len(orjson.dumps(schema))
    except orjson.JSONEncodeError as error:
        raise SchemaFault(Finding((), "is nested too deeply", is_limit=True)) from error
    if size > MAX_SCHEMA_BYTES:
        message = f"has {size:,} bytes; {MAX_SCHEMA_BYTES:,} are allowed"
        raise SchemaFault(Finding((), message, is_limit=True))
    try:
        fits = _METASCHEMA.is_valid(schema)
    except ValueError as error:
        raise SchemaFault(Finding((), "is nested too deeply", is_limit=True)) from error
    if not fits:
        raise SchemaFault(*_against_metaschema(schema))
    if schema.get("type") != "object":
        raise SchemaFault(Finding(("type",), 'must be "object": what is published are objects'))
    return JsonSchema(schema)


def _against_metaschema(schema: Any) -> Iterator[Finding]:
    if _extent(schema)[0] <= MAX_CHECK_BUDGET // 10:
        yield from _bounded(_METASCHEMA.iter_errors(schema))
        return
    try:
        _METASCHEMA.validate(schema)
    except ValidationError as error:
        yield from findings_of(error)


def _validator(graph: SubschemaGraph) -> Draft202012Validator:
    patterns = set(
        chain.from_iterable([*node.get("patternProperties", ()), node.get("pattern")] for node in graph.nodes)
    )
    size = min(_PATTERN_BYTES, _PATTERNS_BYTES // max(len(patterns), 1))
    options = RegexOptions(size_limit=size, dfa_size_limit=size)
    try:
        return Draft202012Validator(graph.root, validate_formats=True, pattern_options=options, offline=True)
    except ValidationError as error:
        if error.kind.name == "format":
            message = "no pattern that can be used: neither look-around nor back-references, and no huge repetitions"
            raise SchemaFault(Finding(tuple(error.instance_path), message)) from error
        raise SchemaFault(*findings_of(error)) from error
    except ValueError as error:
        raise SchemaFault(Finding((), "is nested too deeply", is_limit=True)) from error


def _bounded(errors: Iterator[ValidationError]) -> Iterator[Finding]:
    """What differs only in how the schema comes to it is one finding."""
    found = dict.fromkeys(chain.from_iterable(findings_of(error) for error in errors))
    return islice(found, MAX_FINDINGS)


def _extent(value: Any) -> tuple[int, int]:
    """How many values there are in a JSON value, itself and names included, and how deep they are nested."""
    count, depth, level = 0, 0, [value]
    while level:
        count += len(level)
        inner: list[Any] = []
        for one in level:
            if isinstance(one, dict):
                count += len(one)
                inner += one.values()
            elif isinstance(one, list):
                inner += one
        depth, level = depth + bool(inner), inner
    return count, depth


def _size(schema: JsonSchema) -> int:
    return schema.characters + _ENTRY_CHARACTERS


@cached(LRUCache(_CACHE_CHARACTERS, _size), key=str, lock=Lock())
def load(text: str) -> JsonSchema:
    """Return the compiled schema of a stored text, from the cache if it is there."""
    return JsonSchema(orjson.loads(text), len(text))
