"""The program's own log: one line an event, readable on a terminal, JSON elsewhere; every line carries an `action`."""

import io
import json
import logging
import sys
from contextlib import suppress
from typing import TextIO, cast

import orjson
import structlog

#: Processors of every line.
_STAMPS: tuple[structlog.typing.Processor, ...] = (
    structlog.processors.add_log_level,
    structlog.processors.TimeStamper("iso"),
)


class _StandardError(io.TextIOBase):
    """Standard error, without the lines that cannot be written: a full disk or a closed pipe must not end a worker."""

    def write(self, text: str) -> int:
        """Write text, whose end of line sends it off."""
        with suppress(OSError, ValueError):
            sys.stderr.write(text)
        return len(text)


def configure(level: str) -> None:
    """Send structlog's lines, and those of the libraries from WARNING up, to standard error."""
    log = cast(TextIO, _StandardError())
    renderer: structlog.typing.Processor = _json
    if sys.stderr.isatty():
        # The default formatter shows local variables, and tokens with them.
        renderer = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(
        processors=[*_STAMPS, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        logger_factory=structlog.WriteLoggerFactory(log),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(log)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*_STAMPS, _library_action],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    logging.basicConfig(
        level=max(logging.WARNING, logging.getLevelNamesMapping()[level]), handlers=[handler], force=True
    )


def _json(logger: object, level: str, event: structlog.typing.EventDict) -> str:
    """A line must never cost what it tells of: what orjson refuses (lone surrogates, huge numbers) is escaped."""
    if "exc_info" in event:
        event = structlog.processors.format_exc_info(logger, level, event)
    try:
        return orjson.dumps(event, default=repr, option=orjson.OPT_NON_STR_KEYS).decode()
    except orjson.JSONEncodeError:
        return json.dumps(event, default=repr)


def _library_action(logger: object, method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    event.setdefault("action", "library")
    return event
