"""The program's log: one line per event, readable on a terminal, JSON elsewhere. Every line has an `action`."""

import io
import json
import logging
import os
import sys
from typing import TextIO, cast

import orjson
import structlog

from ringback.models.redaction import DEFAULT, Redaction

_SHARED_PROCESSORS: tuple[structlog.typing.Processor, ...] = (
    structlog.processors.add_log_level,
    structlog.processors.TimeStamper("iso"),
)


class _StandardError(io.TextIOBase):
    """Standard error that drops lines it cannot write: a full disk or a closed pipe must not end a worker."""

    def __init__(self, redaction: Redaction) -> None:
        self._redaction = redaction

    def write(self, text: str) -> int:
        """Write a line, redacted. Return the number of characters written, 0 if the line was dropped.

        Standard error is line-buffered, so the end of a line flushes it.
        """
        try:
            return sys.stderr.write(self._redaction.redact_text(text))
        except (OSError, ValueError):
            return 0


def configure_logging(level: str, redaction: Redaction = DEFAULT) -> None:
    """Send the log to standard error: structlog's lines from `level` up, and those of libraries from WARNING up.

    Secrets are redacted in each line, because exceptions quote URLs.
    """
    minimum = logging.getLevelNamesMapping()[level]
    stream = cast(TextIO, _StandardError(redaction))
    renderer: structlog.typing.Processor = _render_json
    if sys.stderr.isatty():
        renderer = structlog.dev.ConsoleRenderer(
            colors=not os.environ.get("NO_COLOR"),  # https://no-color.org
            # The default formatter shows local variables, which may hold tokens.
            exception_formatter=structlog.dev.plain_traceback,
        )
    structlog.configure(
        processors=[*_SHARED_PROCESSORS, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(minimum),
        logger_factory=structlog.WriteLoggerFactory(stream),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*_SHARED_PROCESSORS, _add_library_action],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    logging.basicConfig(level=max(logging.WARNING, minimum), handlers=[handler], force=True)


def _render_json(logger: object, level: str, event: structlog.typing.EventDict) -> str:
    """Return a line of JSON. Values that orjson refuses, such as lone surrogates and huge integers, are escaped."""
    if "exc_info" in event:
        event = structlog.processors.format_exc_info(logger, level, event)
    try:
        return orjson.dumps(event, default=repr, option=orjson.OPT_NON_STR_KEYS).decode()
    except orjson.JSONEncodeError:
        return json.dumps(event, default=repr)


def _add_library_action(logger: object, method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    event.setdefault("action", "library")
    is_dramatiq = event["_record"].name.startswith("dramatiq.")
    if is_dramatiq and "connection error" in event["event"]:
        event["variable"] = "RINGBACK_BROKER_URL"
    return event
