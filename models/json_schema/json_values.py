"""The extent of a JSON value: how many values it has, how deeply they are nested, and what a copy of it takes."""

from typing import Any

#: Memory for a value or a name in jsonschema-rs' errors, in bytes. An object with one field takes most.
_BYTES_PER_VALUE = 300
#: Memory for a character there, in bytes: four each for the value and for the message that quotes it.
BYTES_PER_CHARACTER = 8


def count_values(value: Any) -> int:
    """Return the number of values in a JSON value, itself and the names of fields included."""
    return sum(_list_level_sizes(value))


def measure_depth(value: Any) -> int:
    """Return the depth of nesting: 0 for a scalar or an empty object, 1 for an object of scalars."""
    return len(_list_level_sizes(value)) - 1


def measure_copy(value: Any) -> int:
    """Return the most memory that a copy of a value takes in an error of jsonschema-rs, in bytes."""
    size = 0
    pending = [value]
    while pending:
        current = pending.pop()
        size += _BYTES_PER_VALUE
        if isinstance(current, str):
            size += BYTES_PER_CHARACTER * len(current)
        elif isinstance(current, dict):
            size += _BYTES_PER_VALUE * len(current) + BYTES_PER_CHARACTER * sum(map(len, current))
            pending += current.values()
        elif isinstance(current, list):
            pending += current
    return size


def measure_longest_path(value: Any) -> int:
    """Return the most characters of a path to a value, with a text at its end."""
    length = 0
    level = [value]
    while level:
        texts = [current for current in level if isinstance(current, str)]
        next_level: list[Any] = []
        for current in level:
            if isinstance(current, dict):
                texts += current
                next_level += current.values()
            elif isinstance(current, list):
                next_level += current
        length += max(map(len, texts), default=0)
        level = next_level
    return length


def _list_level_sizes(value: Any) -> list[int]:
    """Return the number of values at each depth. The names of an object count for its own depth."""
    sizes: list[int] = []
    level = [value]
    while level:
        size = len(level)
        next_level: list[Any] = []
        for current in level:
            if isinstance(current, dict):
                size += len(current)
                next_level += current.values()
            elif isinstance(current, list):
                next_level += current
        sizes.append(size)
        level = next_level
    return sizes
