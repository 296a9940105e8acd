"""The file of the program's own log: the lines of one batch leave in few writes.

Each write is a system call that lets other threads in between; hundreds of them take longer than a batch has time for.
"""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

#: So much a pipe takes at once, without lines of other processes in between (PIPE_BUF on Linux), in bytes.
MAX_BYTES = 4_096


class _Held(threading.local):
    """What a thread holds back, None when it writes at once."""

    texts: list[str] | None = None


class Lines:
    """A text file for whole lines, and a structlog logger that writes them; `together` is of the calling thread only.

    `file` says where to at each moment.
    """

    def __init__(self, file: Callable[[], TextIO]) -> None:
        self._file = file
        self._held = _Held()
        self._lock = threading.Lock()

    def msg(self, line: str) -> None:
        """Write a line that has no end yet."""
        held = self._held.texts
        if held is not None:
            held.append(line + "\n")
        else:
            self._write(line + "\n")

    debug = info = warning = error = critical = msg

    def write(self, text: str) -> None:
        """Write whole lines; within `together` they wait for its end."""
        held = self._held.texts
        if held is not None:
            held.append(text)
        else:
            self._write(text)

    def flush(self) -> None:
        """Nothing: what does not wait has been written."""

    @contextmanager
    def together(self) -> Iterator[None]:
        """Write what comes within the block when it ends, however it ends. It is short and awaits nothing."""
        if self._held.texts is not None:
            yield
            return
        held = self._held.texts = []
        try:
            yield
        finally:
            self._held.texts = None
            for part in _parts("".join(held)):
                self._write(part)

    def _write(self, text: str) -> None:
        # A line must never cost what it tells of: a full disk or a closed pipe ends no worker.
        with self._lock, suppress(OSError, ValueError):
            file = self._file()
            file.write(text)
            file.flush()


def _parts(text: str) -> Iterator[str]:
    """Whole lines, as many at a time as a pipe takes at once, one at least."""
    most = MAX_BYTES if text.isascii() else MAX_BYTES // 4  # a character has four bytes at most
    start = 0
    while start < len(text):
        end = text.rfind("\n", start, start + most) + 1 or text.find("\n", start) + 1 or len(text)
        yield text[start:end]
        start = end


#: Where the program's log goes.
stderr = Lines(lambda: sys.stderr)
