"""The file of the program's own log: many lines of one batch leave in few writes.

Each write is a system call that lets other threads in between; hundreds of them take longer than a batch has time for.
"""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

#: So much a pipe takes at once, without lines of other processes in between (PIPE_BUF on Linux), in bytes.
MAX_BYTES = 4_096


class Lines(threading.local):
    """What takes whole lines for a text file; `together` holds back those of the calling thread only."""

    def __init__(self, file: Callable[[], TextIO]) -> None:
        self._file = file
        self._held: list[str] | None = None
        self._bytes = 0

    def write(self, text: str) -> int:
        """Write lines; within `together` they wait for others, as many as a pipe takes at once."""
        if self._held is None:
            return self._file().write(text)
        size = len(text) if text.isascii() else len(text.encode(errors="surrogatepass"))
        if self._bytes + size > MAX_BYTES:
            self._release(self._held)
        self._held.append(text)
        self._bytes += size
        return len(text)

    def flush(self) -> None:
        """Have the lines written that do not wait."""
        self._file().flush()

    @contextmanager
    def together(self) -> Iterator[None]:
        """Write what comes within the block with fewer writes. It ends soon and awaits nothing."""
        if self._held is not None:
            yield
            return
        held = self._held = []
        try:
            yield
        finally:
            self._held = None
            self._release(held)

    def _release(self, held: list[str]) -> None:
        text = "".join(held)
        held.clear()
        self._bytes = 0
        self._file().write(text)
        self._file().flush()


#: Where the program's log goes.
stderr = Lines(lambda: sys.stderr)
