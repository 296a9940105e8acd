"""Sizes of the patterns of a schema, which decide how much memory it takes and how long its checks can last.

Patterns are regular expressions of Rust's `regex`. Compiling and matching one holds Python's global lock from start to
end, so both must be short. In the worst case a match visits the whole compiled pattern for each character, which makes
the compiled size the measure of its cost.
"""

from collections.abc import Iterator
from typing import NamedTuple

from jsonschema_rs import Draft202012Validator, RegexOptions, ValidationError

from ringback.models.json_schema.findings import Finding, Path
from ringback.models.json_schema.subschemas import Node, SchemaFault, SubschemaGraph

#: Memory for all compiled patterns of one schema, in bytes.
MAX_PATTERN_BYTES = 6 * 2**20
#: Memory for one compiled pattern, in bytes.
_MAX_ONE_PATTERN_BYTES = 5 * 2**20
#: Memory for the states that matching adds to one pattern, in bytes.
_MAX_STATE_BYTES = 2**20
#: The first size that is tried for a pattern, in bytes. It is doubled until the pattern fits.
_SMALLEST_BYTES = 512
#: Bytes that a pattern counts for at least: what the smallest takes once it is compiled and used.
_MIN_COUNTED_BYTES = 8 * 1024
#: Bytes that each character counts for, and each pair of a character and a backslash: the time to parse them.
_BYTES_PER_CHARACTER = 256
_BYTES_PER_TRANSLATION = 128


class PatternSizes(NamedTuple):
    """The compiled size of each pattern, in bytes, and the bytes that all count for together."""

    by_pattern: dict[str, int]
    total: int


class _LocatedPattern(NamedTuple):
    path: Path
    pattern: str


def measure_patterns(graph: SubschemaGraph) -> PatternSizes:
    """Return the sizes of a schema's patterns. Raises SchemaFault for a faulty pattern, and if they are too large."""
    sizes: dict[str, int] = {}
    total = 0
    for path, pattern in _list_patterns(graph):
        if pattern in sizes:
            continue
        counted = max(_MIN_COUNTED_BYTES, _estimate_parsing(pattern))
        if total + counted <= MAX_PATTERN_BYTES:
            sizes[pattern] = _measure(path, pattern)
            counted = max(counted, sizes[pattern])
        total += counted
        if total > MAX_PATTERN_BYTES:
            message = (
                "makes the patterns of this schema too large. Shorten it, or use maxLength or enum "
                "instead of large repetitions and long lists"
            )
            raise SchemaFault(Finding(path, message, is_limit=True))
    return PatternSizes(sizes, total)


def pattern_options(count: int, size: int = _MAX_ONE_PATTERN_BYTES) -> RegexOptions:
    """Return the limits for each of `count` patterns that are compiled together."""
    return RegexOptions(size_limit=size, dfa_size_limit=min(_MAX_STATE_BYTES, MAX_PATTERN_BYTES // max(count, 1)))


def _list_patterns(graph: SubschemaGraph) -> Iterator[_LocatedPattern]:
    for path, node in zip(graph.paths, graph.nodes, strict=True):
        if "pattern" in node:
            yield _LocatedPattern((*path, "pattern"), node["pattern"])
        for pattern in node.get("patternProperties", ()):
            yield _LocatedPattern((*path, "patternProperties", pattern), pattern)


def _estimate_parsing(pattern: str) -> int:
    """Return the bytes that count for parsing. jsonschema-rs copies the pattern for each escape that it translates."""
    characters = len(pattern)
    translations = pattern.count("\\") * characters
    return max(_BYTES_PER_CHARACTER * characters, _BYTES_PER_TRANSLATION * translations)


def _measure(path: Path, pattern: str) -> int:
    """Return the smallest tried size in which a pattern can be compiled. Too small a size fails early."""
    node: Node = {"pattern": pattern}
    size = _SMALLEST_BYTES
    while True:
        try:
            Draft202012Validator(node, pattern_options=pattern_options(1, size), offline=True)
        except ValidationError as error:
            if size == _MAX_ONE_PATTERN_BYTES:
                message = (
                    "is not a supported pattern. Check its syntax, and use no look-around, no back-references "
                    "and no very large repetitions"
                )
                raise SchemaFault(Finding(path, message)) from error
            size = min(2 * size, _MAX_ONE_PATTERN_BYTES)
        else:
            return size
