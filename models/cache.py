"""A cache of what is made from texts, bounded by the size of the texts: what is made grows with them."""

from collections import OrderedDict
from collections.abc import Callable
from threading import Lock
from typing import Generic, TypeVar

T = TypeVar("T")

#: What an entry counts for besides its text, in characters.
_ENTRY = 100


class TextCache(Generic[T]):
    """Least recently used first out; `most` is how many characters of source text are kept. Threads may share it."""

    def __init__(self, make: Callable[[str], T], most: int) -> None:
        self._make = make
        self._most = most
        self._kept: OrderedDict[str, T] = OrderedDict()
        self._characters = 0
        self._lock = Lock()

    def __call__(self, source: str) -> T:
        """Return what is made from `source`; what `make` raises is raised, and not kept."""
        with self._lock:
            if source in self._kept:
                self._kept.move_to_end(source)
                return self._kept[source]
        made = self._make(source)
        with self._lock:
            if source not in self._kept:
                self._kept[source] = made
                self._characters += len(source) + _ENTRY
            while self._characters > self._most:
                oldest, _ = self._kept.popitem(last=False)
                self._characters -= len(oldest) + _ENTRY
        return made
