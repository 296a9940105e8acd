"""How the program stops: deliveries in flight end or are recorded as abandoned, and nothing stays claimed."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from tests.support.deliveries import create_inbox, create_webhook, database, ended, event, key, test_fire
from tests.support.program import Program
from tests.support.receiver import ALLOW_LOOPBACK, Receiver

#: How long the program waits for attempts in flight, and how long the rest of its stop may take.
DRAIN_SECONDS, REST_SECONDS = 5.0, 5.0


def stop(program: Program, *signals: signal.Signals, group: bool = False) -> float:
    """Send the signals, 0.2 s apart; returns how long the program took to end with exit code 0.

    It may take 10 s on an idle machine.
    """
    process = program.process
    assert process is not None
    started = time.monotonic()
    for number in signals:
        if process.poll() is None:
            (os.killpg if group else os.kill)(process.pid, number)
        time.sleep(0.2)
    assert program._wait() == 0, program.log()
    seconds = time.monotonic() - started
    assert seconds < DRAIN_SECONDS + program.allowed(REST_SECONDS)
    return seconds


@pytest.mark.parametrize(
    ("signals", "group"),
    [
        ((signal.SIGTERM,), False),
        ((signal.SIGINT,), False),
        ((signal.SIGTERM,), True),
        ((signal.SIGTERM, signal.SIGTERM), True),
        ((signal.SIGINT, signal.SIGINT), True),
    ],
    ids=["SIGTERM", "SIGINT", "the whole group", "the whole group, twice", "Ctrl+C, twice"],
)
def test_a_signal_ends_it_in_order(
    tmp_path: Path, migrated: Path, signals: tuple[signal.Signals, ...], group: bool
) -> None:
    is_hurried = signals == (signal.SIGINT, signal.SIGINT)
    with Receiver() as receiver:
        receiver.answers.clear()
        program = _with_deliveries_in_flight(tmp_path, migrated, receiver)
        # A program that is hurried ends before the answers come. One that is not waits for them.
        answering = threading.Timer(4.0 if is_hurried else 1.0, receiver.answers.set)
        answering.start()
        stop(program, *signals, group=group)
        answering.join()
    outcome = "ABANDONED" if is_hurried else "DELIVERED"
    assert _attempts(program) == {outcome: 20}
    _nothing_is_held(program)


def test_an_endpoint_that_hangs_is_not_waited_for_too_long(tmp_path: Path, migrated: Path) -> None:
    with Receiver() as receiver:
        receiver.answers.clear()
        program = _with_deliveries_in_flight(tmp_path, migrated, receiver)
        assert stop(program, signal.SIGTERM) > 4
        receiver.answers.set()
    assert _attempts(program) == {"ABANDONED": 20}
    _nothing_is_held(program)


def test_its_own_inbox_answers_until_the_last_delivery_has_ended(tmp_path: Path, migrated: Path) -> None:
    program = Program(tmp_path, migrated=migrated)
    program.start()
    inbox = create_inbox(program, {"delayMs": 3_000})
    fired = test_fire(program, create_webhook(program, inbox, timeoutSeconds=30))
    program.wait_until(lambda: _in_flight(program) == 1 or _attempts(program), "the delivery")
    stop(program, signal.SIGTERM)
    assert _attempts(program) == {"DELIVERED": 1}
    with database(program) as connection:
        status = connection.execute("SELECT status FROM ringback_event WHERE id = ?", [str(key(fired))]).fetchone()
    assert status == ("SUCCEEDED",)


def test_what_waits_goes_on_after_a_restart(tmp_path: Path, migrated: Path) -> None:
    with (
        Receiver(refuse=1.0, refusals=1) as receiver,
        Program(tmp_path, env=ALLOW_LOOPBACK, migrated=migrated) as program,
    ):
        fired = test_fire(program, create_webhook(program, receiver.url, retryDelaysSeconds=[0, 2]))
        program.wait_until(lambda: event(program, fired)["status"] == "RETRYING", "the first attempt")
        due = event(program, fired)["nextAttemptAt"]
        assert program.stop() == 0
        program.start()
        assert event(program, fired)["nextAttemptAt"] in (due, None)
        found = ended(program, fired)
        assert [a["outcome"] for a in found["attempts"]] == ["REJECTED", "DELIVERED"]


def _with_deliveries_in_flight(folder: Path, migrated: Path, receiver: Receiver) -> Program:
    program = Program(folder, env=ALLOW_LOOPBACK, migrated=migrated, own_group=True)
    program.start()
    webhook = create_webhook(program, receiver.url, timeoutSeconds=30)
    for _ in range(20):
        test_fire(program, webhook)
    program.wait_until(lambda: sum(receiver.seen.values()) == 20, "20 requests")
    return program


def _in_flight(program: Program) -> int:
    with database(program) as connection:
        query = "SELECT count(*) FROM ringback_event WHERE worker_id IS NOT NULL"
        return int(connection.execute(query).fetchone()[0])


def _attempts(program: Program) -> dict[str, int]:
    with database(program) as connection:
        return dict(connection.execute("SELECT outcome, count(*) FROM ringback_attempt GROUP BY outcome"))


def _nothing_is_held(program: Program) -> None:
    with database(program) as connection:
        assert connection.execute("SELECT count(*) FROM ringback_event WHERE worker_id IS NOT NULL").fetchone() == (0,)
