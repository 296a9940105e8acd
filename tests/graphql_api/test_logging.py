"""The program's own log: what is written of bad input must be a line, and no error."""

import json
import subprocess
import sys

_PROGRAM = """
import structlog
from ringback.graphql_api.logging import configure
configure("INFO")
structlog.get_logger("test").warning("refused", action="test", path="/\\udcff\\ud800", number=2**70, other=object)
"""


def test_what_no_json_can_hold_is_written_all_the_same() -> None:
    done = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=True)
    (line,) = done.stderr.splitlines()
    told = json.loads(line)
    assert (told["event"], told["level"], told["action"]) == ("refused", "warning", "test")
    assert (told["path"], told["number"], told["other"]) == ("/\udcff\ud800", 2**70, "<class 'object'>")


_LINES = """
import structlog, time
from ringback.graphql_api.logging import configure
configure("INFO")
log = structlog.get_logger("test").bind(action="test")
time.time_ns = lambda: 1_764_001_234_000_045_999
try:
    1 / 0
except ZeroDivisionError:
    log.exception("failed", number=1)
log.debug("unseen")
"""


def test_a_line_tells_its_level_its_moment_and_what_was_raised() -> None:
    done = subprocess.run([sys.executable, "-c", _LINES], capture_output=True, text=True, check=True)
    (line,) = done.stderr.splitlines()
    told = json.loads(line)
    assert told.pop("exception").endswith("ZeroDivisionError: division by zero")
    assert list(told.items()) == [
        ("action", "test"),
        ("number", 1),
        ("event", "failed"),
        ("level", "error"),
        ("timestamp", "2025-11-24T16:20:34.000045Z"),
    ]


_LIBRARY = """
import logging
from ringback.graphql_api.logging import configure
configure("INFO")
try:
    1 / 0
except ZeroDivisionError:
    logging.getLogger("library").exception("failed %s", "here")
logging.getLogger("library").info("unseen")
"""


def test_lines_of_libraries_are_like_our_own() -> None:
    done = subprocess.run([sys.executable, "-c", _LIBRARY], capture_output=True, text=True, check=True)
    (line,) = done.stderr.splitlines()
    told = json.loads(line)
    assert told.pop("exception").endswith("ZeroDivisionError: division by zero")
    assert told.pop("timestamp").endswith("Z")
    assert told == {"event": "failed here", "level": "error", "action": "library"}
