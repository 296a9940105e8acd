"""The limit on the memory that a client's JSON takes once it is parsed, checked before.

An empty list takes 3 bytes as JSON and 64 in memory, so a request of 1 MiB took 25 MB, and held the event loop for as
long as the garbage collector walked through it.
"""

import re

#: Bytes of JSON that are not checked: they cannot hold too much.
UNCHECKED_BYTES = 65_536
#: Values in one request, at most. A list or an object counts as much as LIST_VALUES other values.
MAX_VALUES = 150_000
LIST_VALUES = 8
_STRINGS = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)


def has_too_many_values(text: bytes) -> bool:
    """Return whether JSON holds more than MAX_VALUES values. Brackets and commas in strings do not count."""
    if len(text) <= UNCHECKED_BYTES or _count_values(text) <= MAX_VALUES:
        return False
    return _count_values(_STRINGS.sub(b"", text)) > MAX_VALUES


def _count_values(text: bytes) -> int:
    return text.count(b",") + LIST_VALUES * (text.count(b"[") + text.count(b"{"))
