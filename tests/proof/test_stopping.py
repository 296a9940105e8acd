"""Stopping the program: deliveries in flight end or are recorded as abandoned, and no event stays claimed."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from tests.support.deliveries import (
    create_inbox,
    create_webhook,
    event_uuid,
    fetch_event,
    open_database,
    test_fire,
    wait_until_ended,
)
from tests.support.program import Program
from tests.support.receiver import ALLOW_LOOPBACK, Receiver

#: Seconds that the program waits for attempts in flight.
DRAIN_SECONDS = 5.0
#: Seconds that the rest of its stop may take.
REST_SECONDS = 5.0


def stop(program: Program, *signals: signal.Signals, group: bool = False) -> float:
    """Send the signals, 0.2 s apart. Return how many seconds the program took to end with exit code 0.

    It may take 10 s on an idle machine.
    """
    process = program.process
    assert process is not None
    started = time.monotonic()
    for number in signals:
        if process.poll() is None:
            (os.killpg if group else os.kill)(process.pid, number)
        time.sleep(0.2)
    assert program.wait() == 0, program.log()
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
def test_a_signal_ends_or_abandons_deliveries_in_flight(
    tmp_path: Path, migrated: Path, signals: tuple[signal.Signals, ...], group: bool
) -> None:
    is_hurried = signals == (signal.SIGINT, signal.SIGINT)
    with Receiver() as receiver:
        receiver.answers.clear()
        program = _start_with_deliveries_in_flight(tmp_path, migrated, receiver)
        # A hurried program ends before the responses come. Otherwise it waits for them.
        delay_seconds = 4.0 if is_hurried else 1.0
        answering = threading.Timer(delay_seconds, receiver.answers.set)
        answering.start()
        stop(program, *signals, group=group)
        answering.join()
    outcome = "ABANDONED" if is_hurried else "DELIVERED"
    assert _attempts(program) == {outcome: 20}
    _check_nothing_claimed(program)


def test_waiting_for_a_hanging_endpoint_is_limited(tmp_path: Path, migrated: Path) -> None:
    with Receiver() as receiver:
        receiver.answers.clear()
        program = _start_with_deliveries_in_flight(tmp_path, migrated, receiver)
        assert stop(program, signal.SIGTERM) > 4
        receiver.answers.set()
    assert _attempts(program) == {"ABANDONED": 20}
    _check_nothing_claimed(program)


def test_the_inbox_answers_until_the_last_delivery_has_ended(tmp_path: Path, migrated: Path) -> None:
    program = Program(tmp_path, migrated=migrated)
    program.start()
    inbox = create_inbox(program, {"delayMs": 3_000})
    event_id = test_fire(program, create_webhook(program, inbox, timeoutSeconds=30))
    program.wait_until(lambda: _in_flight(program) == 1 or _attempts(program), "the delivery")
    stop(program, signal.SIGTERM)
    assert _attempts(program) == {"DELIVERED": 1}
    with open_database(program) as connection:
        status = connection.execute(
            "SELECT status FROM ringback_event WHERE id = ?", [str(event_uuid(event_id))]
        ).fetchone()
    assert status == ("SUCCEEDED",)


def test_a_waiting_retry_survives_a_restart(tmp_path: Path, migrated: Path) -> None:
    with (
        Receiver(refuse=1.0, refusals=1) as receiver,
        Program(tmp_path, env=ALLOW_LOOPBACK, migrated=migrated) as program,
    ):
        event_id = test_fire(program, create_webhook(program, receiver.url, retryDelaysSeconds=[0, 2]))
        program.wait_until(lambda: fetch_event(program, event_id)["status"] == "RETRYING", "the first attempt")
        due = fetch_event(program, event_id)["nextAttemptAt"]
        assert program.stop() == 0
        program.start()
        assert fetch_event(program, event_id)["nextAttemptAt"] in (due, None)
        attempts = wait_until_ended(program, event_id)["attempts"]
        assert [a["outcome"] for a in attempts] == ["REJECTED", "DELIVERED"]


def _start_with_deliveries_in_flight(folder: Path, migrated: Path, receiver: Receiver) -> Program:
    program = Program(folder, env=ALLOW_LOOPBACK, migrated=migrated, own_group=True)
    program.start()
    webhook = create_webhook(program, receiver.url, timeoutSeconds=30)
    for _ in range(20):
        test_fire(program, webhook)
    program.wait_until(lambda: sum(receiver.seen.values()) == 20, "20 requests")
    return program


def _in_flight(program: Program) -> int:
    with open_database(program) as connection:
        query = "SELECT count(*) FROM ringback_event WHERE worker_id IS NOT NULL"
        return int(connection.execute(query).fetchone()[0])


def _attempts(program: Program) -> dict[str, int]:
    with open_database(program) as connection:
        return dict(connection.execute("SELECT outcome, count(*) FROM ringback_attempt GROUP BY outcome"))


def _check_nothing_claimed(program: Program) -> None:
    with open_database(program) as connection:
        assert connection.execute("SELECT count(*) FROM ringback_event WHERE worker_id IS NOT NULL").fetchone() == (0,)
