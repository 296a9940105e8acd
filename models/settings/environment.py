"""Names of environment variables: which of those that start with RINGBACK_ are neither settings nor set by others."""

import re
from collections.abc import Collection, Iterable, Iterator

PREFIX = "RINGBACK_"
#: A name that differs from a setting's in at most this many letters counts as misspelled.
MAX_WRONG_LETTERS = 2
#: Variables of the example clients and of the tests, and those that Kubernetes sets for a service named ringback.
_FOREIGN = re.compile(r"RINGBACK_(URL|TOKEN|TEST_.*|SERVICE_.*|PORT_.*)")


def unknown_variables(names: Iterable[str], settings: Collection[str]) -> list[str]:
    """Return the names with the prefix that are not settings, sorted. Names are case-insensitive."""
    known = {variable_name(setting) for setting in settings}
    return sorted(name for name in names if _is_ours(name.upper()) and name.upper() not in known)


def describe_misspellings(unknown: Iterable[str], settings: Collection[str]) -> Iterator[str]:
    """Yield a message for each unknown name that differs from a setting's name in at most MAX_WRONG_LETTERS letters."""
    known = [variable_name(setting) for setting in settings]
    for name in unknown:
        distance, nearest = min((_edit_distance(name.upper(), setting), setting) for setting in known)
        if distance <= MAX_WRONG_LETTERS:
            yield f"{name} is not a setting. Did you mean {nearest}?"


def variable_name(setting: str) -> str:
    """Return the environment variable of a setting: RINGBACK_DATA_DIR for data_dir."""
    return PREFIX + setting.upper()


def _is_ours(name: str) -> bool:
    return name.startswith(PREFIX) and not _FOREIGN.fullmatch(name)


def _edit_distance(first: str, second: str) -> int:
    """Return how many letters must be inserted, removed or replaced to make the texts equal (Levenshtein)."""
    previous = list(range(len(second) + 1))
    for row, letter in enumerate(first, start=1):
        current = [row]
        for column, other in enumerate(second, start=1):
            replaced = previous[column - 1] + (letter != other)
            current.append(min(previous[column] + 1, current[column - 1] + 1, replaced))
        previous = current
    return previous[-1]
