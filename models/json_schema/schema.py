"""Compiled JSON Schemas: the validator, the fields and the cost of each, and the cache of them.

A `format` is checked: a schema that says `date-time` means it. Patterns are regular expressions of Rust's `regex`,
which has no look-around and no back-references, and therefore always runs in linear time.
"""

from collections.abc import Iterator
from itertools import chain, islice
from threading import Lock
from typing import Any, NamedTuple

import orjson
from cachetools import LRUCache, cached
from jsonschema_rs import Draft202012Validator, RegexOptions, ValidationError

from ringback.models.json_schema.field_paths import list_fields
from ringback.models.json_schema.findings import Finding, describe_error
from ringback.models.json_schema.subschemas import DRAFT, SchemaFault, SubschemaGraph
from ringback.models.json_schema.validation_cost import count_visits_by_depth
from ringback.models.templates.decimal_fields import DecimalFields
from ringback.models.templates.field_info import types_by_path

MAX_SCHEMA_BYTES = 256 * 1024
MAX_ITEM_BYTES = 256 * 1024
#: Findings returned for one schema or item.
MAX_FINDINGS = 100
#: Visits of values that the check of one item may take: about a quarter of a second.
MAX_VISITS = 5_000_000
#: Visits that one call may spend on listing findings, which takes a hundred times as long as a yes-or-no check.
MAX_CHECK_BUDGET = 50_000
#: Values of a schema whose findings are listed one by one; a larger schema gets only the first.
_MAX_LISTED_SCHEMA_VALUES = 5_000
#: Memory for all compiled patterns of one schema, in bytes.
_ALL_PATTERNS_BYTES = 128 * 2**20
#: Memory for one compiled pattern, in bytes.
_ONE_PATTERN_BYTES = 6 * 2**20
#: Source text of the schemas that the cache holds, in characters.
_CACHE_CHARACTERS = 4 * 2**20
#: Characters that a cache entry counts for besides its source.
_ENTRY_CHARACTERS = 100

_METASCHEMA = Draft202012Validator({"$ref": DRAFT}, offline=True)
_TOO_DEEP = Finding((), "is nested too deeply", is_limit=True)


class CheckBudget:
    """The visits that one call may still spend on listing findings."""

    def __init__(self) -> None:
        self._visits_left = MAX_CHECK_BUDGET

    def spend(self, visits: int) -> bool:
        """Subtract `visits`, and return whether enough were left."""
        self._visits_left -= visits
        return self._visits_left >= 0


class JsonSchema:
    """A compiled schema. Raises SchemaFault for one that Ringback does not support.

    `characters` is the length of its stored text. `fields` are the paths that templates can use, `decimals` those that
    are numbers in templates, `names` the top-level fields of an item, and `is_open` whether an item may have others.
    """

    def __init__(self, schema: dict[str, Any], characters: int = 0) -> None:
        graph = SubschemaGraph(schema)
        self.characters = characters
        self._visits_by_depth = count_visits_by_depth(graph)
        self._validator = _compile(graph)
        self.fields = tuple(list_fields(graph))
        self.decimals = DecimalFields(types_by_path(self.fields))
        self.names = _top_level_names(graph)
        self.is_open = any(info.path == "item.*" for info in self.fields)

    def check(self, item: Any, size: int, budget: CheckBudget) -> list[Finding]:
        """Return what is wrong with an item. `size` is the length of its JSON, in bytes."""
        # A value takes at least two bytes of JSON. This bound is enough for most schemas and saves walking the item.
        max_values = size // 2
        if max_values * self._visits_by_depth[-1] > MAX_VISITS and self._count_visits(item) > MAX_VISITS:
            message = "is too large or nested too deeply to be checked against its schema"
            return [Finding((), message, is_limit=True)]
        if self._validator.is_valid(item):
            return []
        if not budget.spend(self._count_visits(item)):
            return [Finding((), "does not match the schema. The input is too large to list the errors")]
        return list(_list_findings(self._validator.iter_errors(item)))

    def _count_visits(self, item: Any) -> int:
        """Return the most visits that a check of `item` can take."""
        extent = _measure(item)
        depth = min(extent.depth, len(self._visits_by_depth) - 1)
        return extent.values * self._visits_by_depth[depth]


def check_schema(schema: Any) -> JsonSchema:
    """Compile a schema that a user wrote. Raises SchemaFault with everything that is wrong with it."""
    if not isinstance(schema, dict):
        raise SchemaFault(Finding((), 'must be an object, such as {"type": "object", "properties": {…}}'))
    try:
        size = len(orjson.dumps(schema))
    except orjson.JSONEncodeError as error:
        raise SchemaFault(_TOO_DEEP) from error
    if size > MAX_SCHEMA_BYTES:
        message = f"has {size:,} bytes; {MAX_SCHEMA_BYTES:,} are allowed"
        raise SchemaFault(Finding((), message, is_limit=True))
    try:
        is_valid = _METASCHEMA.is_valid(schema)
    except ValueError as error:
        raise SchemaFault(_TOO_DEEP) from error
    if not is_valid:
        raise SchemaFault(*_find_metaschema_errors(schema))
    if schema.get("type") != "object":
        raise SchemaFault(Finding(("type",), 'must be "object", because published items are objects'))
    return JsonSchema(schema)


def _find_metaschema_errors(schema: Any) -> Iterator[Finding]:
    if _measure(schema).values <= _MAX_LISTED_SCHEMA_VALUES:
        yield from _list_findings(_METASCHEMA.iter_errors(schema))
        return
    try:
        _METASCHEMA.validate(schema)
    except ValidationError as error:
        yield from describe_error(error)


def _top_level_names(graph: SubschemaGraph) -> frozenset[str]:
    names: set[str] = set()
    for node in graph.applied_with(graph.root):
        properties = node.get("properties", {})
        names.update(name for name, child in properties.items() if child is not False)
    return frozenset(names)


def _compile(graph: SubschemaGraph) -> Draft202012Validator:
    pattern_bytes = min(_ONE_PATTERN_BYTES, _ALL_PATTERNS_BYTES // max(_count_patterns(graph), 1))
    options = RegexOptions(size_limit=pattern_bytes, dfa_size_limit=pattern_bytes)
    try:
        return Draft202012Validator(graph.root, validate_formats=True, pattern_options=options, offline=True)
    except ValidationError as error:
        if error.kind.name == "format":
            message = (
                "is not a supported pattern. Check its syntax, and use no look-around, no back-references "
                "and no very large repetitions"
            )
            raise SchemaFault(Finding(tuple(error.instance_path), message)) from error
        raise SchemaFault(*describe_error(error)) from error
    except ValueError as error:
        raise SchemaFault(_TOO_DEEP) from error


def _count_patterns(graph: SubschemaGraph) -> int:
    patterns: set[str] = set()
    for node in graph.nodes:
        patterns.update(node.get("patternProperties", ()))
        if "pattern" in node:
            patterns.add(node["pattern"])
    return len(patterns)


def _list_findings(errors: Iterator[ValidationError]) -> Iterator[Finding]:
    """Return up to MAX_FINDINGS different findings. Errors that differ only in their schema path make one."""
    findings = dict.fromkeys(chain.from_iterable(map(describe_error, errors)))
    return islice(findings, MAX_FINDINGS)


class _Extent(NamedTuple):
    """The number of values in a JSON value, itself and the names of fields included, and the depth of their nesting."""

    values: int
    depth: int


def _measure(value: Any) -> _Extent:
    values, depth, level = 0, 0, [value]
    while level:
        values += len(level)
        next_level: list[Any] = []
        for current in level:
            if isinstance(current, dict):
                values += len(current)
                next_level += current.values()
            elif isinstance(current, list):
                next_level += current
        if next_level:
            depth += 1
        level = next_level
    return _Extent(values, depth)


def _count_characters(schema: JsonSchema) -> int:
    return schema.characters + _ENTRY_CHARACTERS


@cached(LRUCache(_CACHE_CHARACTERS, _count_characters), key=str, lock=Lock())
def load_schema(text: str) -> JsonSchema:
    """Return the compiled schema of a stored text, cached."""
    return JsonSchema(orjson.loads(text), len(text))
