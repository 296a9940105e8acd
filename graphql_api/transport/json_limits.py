"""The limit on the memory that a client's JSON takes once it is parsed, checked before.

An empty list takes 3 bytes as JSON and 64 in memory, so a request of 1 MiB took 25 MB, and held the event loop for as
long as the garbage collector walked through it.
"""

import re
import sys

#: Bytes of JSON that are not checked: they cannot hold too much.
UNCHECKED_BYTES = 65_536
#: Values in one request, at most. A list or an object counts as much as LIST_VALUES other values.
MAX_VALUES = 150_000
LIST_VALUES = 8
#: Bytes of memory for a value: a short string or a list, and its place in a list. An object takes OBJECT_BYTES.
VALUE_BYTES = 64
OBJECT_BYTES = 192
_STRINGS = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)


def has_too_many_values(text: bytes) -> bool:
    """Return whether JSON holds more than MAX_VALUES values. Brackets and commas in strings do not count."""
    if len(text) <= UNCHECKED_BYTES or _count_values(text) <= MAX_VALUES:
        return False
    return _count_values(_STRINGS.sub(b"", text)) > MAX_VALUES


def estimate_memory(text: str) -> int:
    """Return about how many bytes valid JSON takes once it is parsed, at most."""
    encoded = text.encode()
    values_bytes = _count_memory(encoded)
    if values_bytes > len(encoded):
        values_bytes = _count_memory(_STRINGS.sub(b"", encoded))
    return sys.getsizeof(text) + values_bytes


def _count_memory(text: bytes) -> int:
    return VALUE_BYTES * (text.count(b",") + text.count(b"[")) + OBJECT_BYTES * text.count(b"{")


def _count_values(text: bytes) -> int:
    return text.count(b",") + LIST_VALUES * (text.count(b"[") + text.count(b"{"))
