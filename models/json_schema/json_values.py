"""The extent of a JSON value: how many values it has, and how deeply they are nested."""

from typing import Any


def count_values(value: Any) -> int:
    """Return the number of values in a JSON value, itself and the names of fields included."""
    return sum(_list_level_sizes(value))


def measure_depth(value: Any) -> int:
    """Return the depth of nesting: 0 for a scalar or an empty object, 1 for an object of scalars."""
    return len(_list_level_sizes(value)) - 1


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
