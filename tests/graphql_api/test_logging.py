"""The program's log: every event is one line, whatever its values, and logging never fails."""

import datetime as dt
import json
import os
import re
import subprocess
import sys
from contextlib import suppress

import pytest

from ringback.models.redaction import MASK

_PROGRAM = """
import structlog
from ringback.graphql_api.logging import configure_logging
configure_logging("INFO")
structlog.get_logger("test").warning("refused", action="test", path="/\\udcff\\ud800", number=2**70, other=object)
"""


def test_values_that_json_cannot_hold_are_escaped() -> None:
    done = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=True)
    (line,) = done.stderr.splitlines()
    entry = json.loads(line)
    assert (entry["event"], entry["level"], entry["action"]) == ("refused", "warning", "test")
    assert (entry["path"], entry["number"], entry["other"]) == ("/\udcff\ud800", 2**70, "<class 'object'>")


_LINES = """
import structlog
from ringback.graphql_api.logging import configure_logging
configure_logging("INFO")
log = structlog.get_logger("test").bind(action="test")
try:
    1 / 0
except ZeroDivisionError:
    log.exception("failed", number=1)
log.debug("unseen")
"""


def test_a_line_has_level_timestamp_and_exception() -> None:
    before = dt.datetime.now(dt.UTC)
    done = subprocess.run([sys.executable, "-c", _LINES], capture_output=True, text=True, check=True)
    (line,) = done.stderr.splitlines()
    entry = json.loads(line)
    assert entry["timestamp"].endswith("Z")
    assert before <= dt.datetime.fromisoformat(entry["timestamp"]) <= dt.datetime.now(dt.UTC)
    assert entry.pop("exception").endswith("ZeroDivisionError: division by zero")
    assert list(entry.items()) == [
        ("action", "test"),
        ("number", 1),
        ("event", "failed"),
        ("level", "error"),
        ("timestamp", entry["timestamp"]),
    ]


_LIBRARY = """
import logging
from ringback.graphql_api.logging import configure_logging
configure_logging("INFO")
try:
    1 / 0
except ZeroDivisionError:
    logging.getLogger("library").exception("failed %s", "here")
logging.getLogger("library").info("unseen")
"""


def test_lines_of_libraries_have_the_same_format() -> None:
    done = subprocess.run([sys.executable, "-c", _LIBRARY], capture_output=True, text=True, check=True)
    (line,) = done.stderr.splitlines()
    entry = json.loads(line)
    assert entry.pop("exception").endswith("ZeroDivisionError: division by zero")
    assert entry.pop("timestamp").endswith("Z")
    assert entry == {"event": "failed here", "level": "error", "action": "library"}


_BROKER = """
import logging
from ringback.graphql_api.logging import configure_logging
configure_logging("INFO")
consumer = logging.getLogger("dramatiq.worker.ConsumerThread")
consumer.critical("Consumer encountered a connection error: %s", "refused")
consumer.critical("Consumer encountered an unexpected error.")
"""


def test_a_lost_broker_names_the_variable_of_its_url() -> None:
    done = subprocess.run([sys.executable, "-c", _BROKER], capture_output=True, text=True, check=True)

    lost, other = map(json.loads, done.stderr.splitlines())

    assert lost["event"] == "Consumer encountered a connection error: refused"
    assert lost["variable"] == "RINGBACK_BROKER_URL"
    assert "variable" not in other


def run_on_terminal(program: str, **env: str) -> list[str]:
    """Run a program whose standard error is a terminal. Return the lines that it writes there."""
    reading, terminal = os.openpty()
    subprocess.run([sys.executable, "-c", program], stderr=terminal, check=True, env={**os.environ, **env})
    os.close(terminal)
    written = b""
    with suppress(OSError):  # EIO ends the output of a terminal that nobody has open
        while part := os.read(reading, 65_536):
            written += part
    os.close(reading)
    return written.decode().splitlines()


def test_a_terminal_gets_readable_lines() -> None:
    first, *traceback = run_on_terminal(_LINES, NO_COLOR="1")

    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z \[error +\] failed +action=test number=1", first)
    assert traceback[0] == "Traceback (most recent call last):"
    assert traceback[-1] == "ZeroDivisionError: division by zero"


def test_a_terminal_shows_levels_in_colors() -> None:
    first, *_ = run_on_terminal(_LINES, NO_COLOR="")

    assert "\x1b[" in first
    assert "failed" in first


def test_a_terminal_gets_lines_of_libraries_in_the_same_form() -> None:
    first, *_ = run_on_terminal(_LIBRARY, NO_COLOR="1")

    assert re.fullmatch(r"\S+Z \[error +\] failed here +action=library", first)


_UNWRITABLE = """
import logging, os, sys
import structlog
from ringback.graphql_api.logging import configure_logging
configure_logging("INFO")
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
def test_a_line_that_cannot_be_written_is_dropped(way: str) -> None:
    done = subprocess.run([sys.executable, "-c", _UNWRITABLE, way], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "still running")


_THREADS = """
import logging, threading
import structlog
from ringback.graphql_api.logging import configure_logging
configure_logging("INFO")
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


def test_lines_of_several_threads_do_not_mix() -> None:
    done = subprocess.run([sys.executable, "-c", _THREADS], capture_output=True, text=True, check=True)
    events = [json.loads(line)["event"][0] for line in done.stderr.splitlines()]
    assert sorted(events) == ["x"] * 800 + ["y"] * 800


_SECRETS = """
import logging
import structlog
from ringback.graphql_api.logging import configure_logging
from ringback.models.redaction import Redaction
configure_logging("INFO", Redaction(["corp"]))
log = structlog.get_logger("test").bind(action="test")
url = "https://me:s3cr3t@x.example/?corp=s3cr3t&a=1"
log.info("sending", url=url)
try:
    raise ValueError(f"cannot send to '{url}'")
except ValueError:
    log.exception("failed")
    logging.getLogger("library").exception("failed to send to %s", url)
"""


def test_lines_and_exceptions_quote_no_secrets() -> None:
    done = subprocess.run([sys.executable, "-c", _SECRETS], capture_output=True, text=True, check=True)

    sending, failed, library = map(json.loads, done.stderr.splitlines())
    assert sending["url"] == f"https://{MASK}@x.example/?corp={MASK}&a=1"
    assert f"cannot send to 'https://{MASK}@x.example/?corp={MASK}&a=1'" in failed["exception"]
    assert library["event"] == f"failed to send to https://{MASK}@x.example/?corp={MASK}&a=1"
    assert f"@x.example/?corp={MASK}&a=1'" in library["exception"]
    assert "ValueError: cannot send to 'https://me" not in done.stderr
