"""Rule 4 by the clock, on the really started program: the default schedule, the timeout, and what counts as success."""

import datetime as dt
from pathlib import Path
from typing import Any

import pytest

from tests.support.deliveries import (
    CREATE_WEBHOOK,
    EVENTS_OF,
    REQUEST_CALLBACK,
    TRACK_LEADS,
    create_inbox,
    create_webhook,
    fetch_event,
    make_due,
    parse_time,
    test_fire,
    wait_until_ended,
)
from tests.support.program import Program

pytestmark = pytest.mark.alone


def answer(status: int = 200, delay_ms: int = 0) -> dict[str, Any]:
    return {"statusCode": status, "delayMs": delay_ms}


#: One inbox and one webhook with the default schedule and timeout for each; one lead fires them all.
CASES = {
    "500, 500, 200": [answer(500), answer(500), answer(200)],
    "500 three times": [answer(500)],
    "after 8 s": [answer(delay_ms=8_000)],
    "after 2 s": [answer(delay_ms=2_000)],
    "201": [answer(201)],
    "302": [answer(302)],
}
FIRST = {
    "500, 500, 200": ("REJECTED", 500),
    "500 three times": ("REJECTED", 500),
    "after 8 s": ("TIMED_OUT", None),
    "after 2 s": ("DELIVERED", 200),
    "201": ("REJECTED", 201),
    "302": ("REJECTED", 302),
}


def test_the_default_schedule_by_the_clock(tmp_path: Path) -> None:
    with Program(tmp_path) as program:
        webhooks = {
            name: _create_default_webhook(program, create_inbox(program, *answers)) for name, answers in CASES.items()
        }
        program.query(TRACK_LEADS)
        before = dt.datetime.now(dt.UTC)
        program.query(REQUEST_CALLBACK, {"input": {"name": "Мария", "phone": "+7 900 000-00-00"}})
        after = dt.datetime.now(dt.UTC)

        events = {name: _only_event(program, webhook) for name, webhook in webhooks.items()}
        for found in events.values():
            assert before <= parse_time(found["createdAt"]) <= after
            due_in = parse_time(found["nextAttemptAt"]) - parse_time(found["createdAt"])
            assert (found["status"], found["attemptCount"], found["maxAttempts"]) == ("PENDING", 0, 3)
            assert due_in == dt.timedelta(seconds=5)

        control = _lateness_of_test_fires(program)
        firsts = {name: _attempted(program, found["id"], 1) for name, found in events.items()}
        for name, found in firsts.items():
            (attempt,) = found["attempts"]
            assert (attempt["outcome"], attempt["statusCode"]) == FIRST[name], name
            started = parse_time(attempt["startedAt"])
            late = (started - parse_time(found["createdAt"])).total_seconds() - 5
            assert -0.25 <= late <= 0.25 + 3 * control, name
        assert firsts["after 2 s"]["attempts"][0]["durationMs"] >= 2_000
        assert 3_000 <= firsts["after 8 s"]["attempts"][0]["durationMs"] < 3_100 + 3_000 * control
        assert firsts["after 2 s"]["status"] == "SUCCEEDED"
        retrying = {name: found for name, found in firsts.items() if name != "after 2 s"}
        for name, found in retrying.items():
            assert found["status"] == "RETRYING", name
            _check_wait(found, 240)

        both = [events["500, 500, 200"]["id"], events["500 three times"]["id"]]
        make_due(program, both)
        for event_id in both:
            _check_wait(_attempted(program, event_id, 2), 480)
        make_due(program, both)
        succeeded, failed = (wait_until_ended(program, event_id) for event_id in both)
        assert [a["outcome"] for a in succeeded["attempts"]] == ["REJECTED", "REJECTED", "DELIVERED"]
        assert [a["outcome"] for a in failed["attempts"]] == ["REJECTED"] * 3
        assert (succeeded["status"], failed["status"]) == ("SUCCEEDED", "FAILED")
        for found in (succeeded, failed):
            assert [a["number"] for a in found["attempts"]] == [1, 2, 3]
            assert (found["attemptCount"], found["maxAttempts"], found["nextAttemptAt"]) == (3, 3, None)


def _create_default_webhook(program: Program, url: str) -> str:
    given = {"model": "lead", "actions": ["CREATED"], "url": url}
    return str(program.query(CREATE_WEBHOOK, {"input": given})["createWebhook"]["webhook"]["id"])


def _lateness_of_test_fires(program: Program) -> float:
    """Return how long after its creation the latest of ten test events was first attempted, in seconds."""
    webhook = create_webhook(program, create_inbox(program))
    events = [wait_until_ended(program, test_fire(program, webhook)) for _ in range(10)]
    late = [parse_time(found["attempts"][0]["startedAt"]) - parse_time(found["createdAt"]) for found in events]
    return max(late).total_seconds()


def _only_event(program: Program, webhook: str) -> dict[str, Any]:
    (found,) = program.query(EVENTS_OF, {"webhooks": [webhook]})["events"]["nodes"]
    assert isinstance(found, dict)
    return found


def _attempted(program: Program, event_id: str, attempts: int) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        # The event is read before its attempts, and a result may be written between the two.
        found = fetch_event(program, event_id)
        return found if found["attemptCount"] == len(found["attempts"]) == attempts else None

    found: dict[str, Any] = program.wait_until(look, f"attempt {attempts} of {event_id}")
    return found


def _check_wait(found: dict[str, Any], seconds: int) -> None:
    """`nextAttemptAt` is `seconds` after the end of the last attempt. (tests/jobs/test_retry.py has it exactly.)"""
    last = found["attempts"][-1]
    end = parse_time(last["startedAt"]) + dt.timedelta(milliseconds=last["durationMs"])
    assert abs((parse_time(found["nextAttemptAt"]) - end).total_seconds() - seconds) <= 1
