"""The program's own log: what is written of bad input must be a line, and no error."""

import datetime as dt
import json
import subprocess
import sys

import pytest

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
import structlog
from ringback.graphql_api.logging import configure
configure("INFO")
log = structlog.get_logger("test").bind(action="test")
try:
    1 / 0
except ZeroDivisionError:
    log.exception("failed", number=1)
log.debug("unseen")
"""


def test_a_line_tells_its_level_its_moment_and_what_was_raised() -> None:
    before = dt.datetime.now(dt.UTC)
    done = subprocess.run([sys.executable, "-c", _LINES], capture_output=True, text=True, check=True)
    (line,) = done.stderr.splitlines()
    told = json.loads(line)
    assert told["timestamp"].endswith("Z")
    assert before <= dt.datetime.fromisoformat(told["timestamp"]) <= dt.datetime.now(dt.UTC)
    assert told.pop("exception").endswith("ZeroDivisionError: division by zero")
    assert list(told.items()) == [
        ("action", "test"),
        ("number", 1),
        ("event", "failed"),
        ("level", "error"),
        ("timestamp", told["timestamp"]),
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


_UNWRITABLE = """
import logging, os, sys
import structlog
from ringback.graphql_api.logging import configure
configure("INFO")
way = sys.argv[1]
if way == "closed file":
    sys.stderr.close()
elif way == "full disk":
    os.dup2(os.open("/dev/full", os.O_WRONLY), 2)
else:
    reading, writing = os.pipe()
    os.dup2(writing, 2)
    os.close(reading)
structlog.get_logger("test").info("lost", action="test")
logging.getLogger("library").warning("lost")
os.write(1, b"still running")
os._exit(0)
"""


@pytest.mark.parametrize("way", ["full disk", "closed pipe", "closed file"])
def test_a_line_that_cannot_be_written_ends_nothing(way: str) -> None:
    done = subprocess.run([sys.executable, "-c", _UNWRITABLE, way], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "still running")


_THREADS = """
import logging, threading
import structlog
from ringback.graphql_api.logging import configure
configure("INFO")
def write(number):
    for _ in range(200):
        structlog.get_logger("test").info("x" * 3_000, action="test", number=number)
        logging.getLogger("library").warning("y" * 3_000)
threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


def test_lines_of_several_threads_are_whole() -> None:
    done = subprocess.run([sys.executable, "-c", _THREADS], capture_output=True, text=True, check=True)
    events = [json.loads(line)["event"][0] for line in done.stderr.splitlines()]
    assert sorted(events) == ["x"] * 800 + ["y"] * 800
