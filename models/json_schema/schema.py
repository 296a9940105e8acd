"""Compiled JSON Schemas: the validator, the fields and the cost of each.

A `format` is checked: a schema that says `date-time` means it. Patterns are regular expressions of Rust's `regex`,
which has no look-around and no back-references, and therefore always runs in linear time.

Compiling takes up to a second, so only threads do it: see `compiler`.
"""

from collections.abc import Iterator
from itertools import chain, islice
from typing import Any

import orjson
from jsonschema_rs import Draft202012Validator, ValidationError

from ringback.models.json_schema.field_paths import list_fields
from ringback.models.json_schema.findings import Finding, describe_error
from ringback.models.json_schema.json_values import (
    BYTES_PER_CHARACTER,
    count_values,
    measure_depth,
    measure_longest_path,
)
from ringback.models.json_schema.patterns import measure_patterns, pattern_options
from ringback.models.json_schema.subschemas import DRAFT, SchemaFault, SubschemaGraph
from ringback.models.json_schema.validation_cost import CheckCost
from ringback.models.templates.field_info import FieldInfo

MAX_SCHEMA_BYTES = 256 * 1024
MAX_ITEM_BYTES = 256 * 1024
#: Findings returned for one schema or item.
MAX_FINDINGS = 100
#: Visits that the check of one item may take. Python's global lock is held for as long: about 25 ms.
MAX_VISITS = 500_000
#: Visits that the checks of one call may take together.
MAX_CALL_VISITS = 4_000_000
#: Visits of an item whose findings are listed, which takes up to a hundred times as long as a yes-or-no check. The
#: memory of the errors, of which each holds a copy of its value, counts as visits: 32 MB at most.
MAX_LISTED_VISITS = 5_000
#: Visits that one call may spend on listing findings.
MAX_CALL_LISTED_VISITS = 50_000
#: Visits up to which an estimate is exact enough, because the check is shorter than counting them.
MAX_QUICK_VISITS = 20_000
#: Size of the items whose depth is measured for an estimate, in bytes.
_MAX_QUICK_BYTES = 16 * 1024
#: Values of a schema whose findings are listed one by one; a larger schema gets only the first.
_MAX_LISTED_SCHEMA_VALUES = 500
#: Characters of the paths in a schema whose findings are listed one by one: the error of each value holds its path.
_MAX_LISTED_SCHEMA_CHARACTERS = 10_000
#: Memory that a compiled schema takes, in bytes: for each character of its text and each subschema, and for each byte
#: of its patterns, which includes the states that matching adds.
_BYTES_PER_CHARACTER, _BYTES_PER_SUBSCHEMA, _BYTES_PER_PATTERN_BYTE = 24, 2_048, 4
#: Keywords whose errors hold the errors of all alternatives, which takes long to list.
_ALTERNATIVES = frozenset({"anyOf", "oneOf", "propertyNames"})

_METASCHEMA = Draft202012Validator({"$ref": DRAFT}, offline=True)
_TOO_DEEP = Finding((), "is nested too deeply", is_limit=True)


class CheckBudget:
    """The visits that one call may still spend on checks, and on listing findings."""

    def __init__(self) -> None:
        self._visits_left = MAX_CALL_VISITS
        self._listed_visits_left = MAX_CALL_LISTED_VISITS

    def spend(self, visits: float) -> bool:
        """Subtract the visits of a check. Return whether enough were left, and subtract nothing otherwise."""
        if visits > self._visits_left:
            return False
        self._visits_left -= int(visits)
        return True

    def spend_listing(self, visits: float) -> bool:
        """Subtract the visits of listing findings. Return whether enough were left, and subtract nothing otherwise."""
        if visits > self._listed_visits_left:
            return False
        self._listed_visits_left -= int(visits)
        return True


class JsonSchema:
    """A compiled schema. Raises SchemaFault for one that Ringback does not support.

    `names` are the top-level fields of an item. `memory_bytes` estimates what the compiled schema takes at most.
    """

    def __init__(self, schema: dict[str, Any], characters: int) -> None:
        self._longest_path = measure_longest_path(schema)
        self._graph = SubschemaGraph(schema)
        patterns = measure_patterns(self._graph)
        self._cost = CheckCost(self._graph, patterns.by_pattern)
        self._validator = _compile(self._graph, len(patterns.by_pattern))
        self._has_alternatives = any(node.keys() & _ALTERNATIVES for node in self._graph.nodes)
        self.names = _top_level_names(self._graph)
        self.memory_bytes = (
            characters * _BYTES_PER_CHARACTER
            + len(self._graph.nodes) * _BYTES_PER_SUBSCHEMA
            + patterns.total * _BYTES_PER_PATTERN_BYTE
        )

    @property
    def fields(self) -> tuple[FieldInfo, ...]:
        """Return the paths that templates can use. Computed anew each time."""
        return tuple(list_fields(self._graph))

    def estimate_visits(self, item: Any, size: int) -> float:
        """Return an upper limit of the visits for an item of `size` bytes. It may be far too high for a large item."""
        visits = self._cost.estimate(size)
        if visits > MAX_QUICK_VISITS and size <= _MAX_QUICK_BYTES:
            return self._cost.estimate(size, measure_depth(item))
        return visits

    def accepts_quickly(self, item: Any, visits: float) -> bool:
        """Return whether an item is valid, if its check takes about a millisecond at most, and False otherwise."""
        return visits <= MAX_QUICK_VISITS and self._validator.is_valid(item)

    def check(self, item: Any, size: int, budget: CheckBudget) -> list[Finding]:
        """Return what is wrong with an item. `size` is the length of its JSON, in bytes."""
        visits = self.estimate_visits(item, size)
        if visits > MAX_QUICK_VISITS:
            visits = self._cost.count(item, MAX_VISITS)
        if visits > MAX_VISITS:
            message = "is too large or nested too deeply to be checked against its schema"
            return [Finding((), message, is_limit=True)]
        if not budget.spend(visits):
            message = "is not checked, because the other items of this call took long. Send fewer in one call"
            return [Finding((), message, is_limit=True)]
        if self._validator.is_valid(item):
            return []
        return list(self._list_findings(item, budget))

    def _list_findings(self, item: Any, budget: CheckBudget) -> Iterator[Finding]:
        """Yield the findings of an invalid item: all, or the first if listing all would take long or much memory."""
        quoted_bytes = BYTES_PER_CHARACTER * (measure_longest_path(item) + self._longest_path)
        visits = self._cost.count_listing(item, quoted_bytes, MAX_LISTED_VISITS)
        if visits <= MAX_LISTED_VISITS and budget.spend_listing(visits):
            yield from _list_findings(self._validator.iter_errors(item))
        elif self._has_alternatives or not budget.spend_listing(1):
            yield Finding((), "does not match the schema. The input is too large to list the errors")
        else:
            yield from _find_first_error(self._validator, item)


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
    return JsonSchema(schema, size)


def load_schema(text: str) -> JsonSchema:
    """Compile the stored text of a schema. Raises SchemaFault for one that was stored before a limit existed."""
    return JsonSchema(orjson.loads(text), len(text))


def derive_fields(text: str) -> tuple[FieldInfo, ...]:
    """Return the fields of a stored schema without compiling it. Raises SchemaFault."""
    return tuple(list_fields(SubschemaGraph(orjson.loads(text))))


def _find_metaschema_errors(schema: Any) -> Iterator[Finding]:
    is_small = count_values(schema) <= _MAX_LISTED_SCHEMA_VALUES
    if is_small and measure_longest_path(schema) <= _MAX_LISTED_SCHEMA_CHARACTERS:
        yield from _list_findings(_METASCHEMA.iter_errors(schema))
    else:
        yield from _find_first_error(_METASCHEMA, schema)


def _find_first_error(validator: Draft202012Validator, value: Any) -> Iterator[Finding]:
    """Yield the findings of the first error of an invalid value."""
    try:
        validator.validate(value)
    except ValidationError as error:
        yield from describe_error(error)


def _top_level_names(graph: SubschemaGraph) -> frozenset[str]:
    names: set[str] = set()
    for node in graph.applied_with(graph.root):
        properties = node.get("properties", {})
        names.update(name for name, child in properties.items() if child is not False)
    return frozenset(names)


def _compile(graph: SubschemaGraph, pattern_count: int) -> Draft202012Validator:
    try:
        return Draft202012Validator(
            graph.root, validate_formats=True, pattern_options=pattern_options(pattern_count), offline=True
        )
    except ValidationError as error:
        raise SchemaFault(*describe_error(error)) from error
    except ValueError as error:
        raise SchemaFault(_TOO_DEEP) from error


def _list_findings(errors: Iterator[ValidationError]) -> Iterator[Finding]:
    """Return up to MAX_FINDINGS different findings. Errors that differ only in their schema path make one."""
    findings = dict.fromkeys(chain.from_iterable(map(describe_error, errors)))
    return islice(findings, MAX_FINDINGS)
