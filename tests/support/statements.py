"""Counting SQL statements, as Tortoise's own log tells them."""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

#: Set in the block and in the tasks that it starts, and not in what runs beside it, such as the tailer.
_within: ContextVar[bool] = ContextVar("within", default=False)


@contextmanager
def counted(*, everywhere: bool = False) -> Iterator[list[str]]:
    """Collect the SQL statements that are executed within the block; `everywhere` also by tasks that ran before."""
    statements: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if everywhere or _within.get():
                statements.append(record.getMessage())

    logger, handler = logging.getLogger("tortoise.db_client"), Handler()
    level, propagate = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    token = _within.set(True)
    try:
        yield statements
    finally:
        _within.reset(token)
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate


def table(statement: str) -> str:
    """Return the first table that a statement reads from."""
    found = re.search(r'FROM\s+"?(?!\()(\w+)', statement)
    assert found is not None, statement
    return found[1]
