"""Refusals: their responses, and a log that an attack cannot fill."""

import pytest
from structlog.testing import capture_logs

from ringback.graphql_api.listener.refusals import Refusal, RefusalLog


def test_a_refusal_for_lack_of_capacity_says_when_to_try_again() -> None:
    response = Refusal(429, "Too many.").write([(b"date", b"today")])
    assert response == (
        b"HTTP/1.1 429 Too Many Requests\r\ndate: today\r\nConnection: close\r\nRetry-After: 1\r\n"
        b"Content-Type: text/plain; charset=utf-8\r\nContent-Length: 9\r\n\r\nToo many."
    )
    assert "Retry-After" not in Refusal(431, "Too long.").headers


def test_each_status_is_logged_once_and_then_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    log = RefusalLog()
    with capture_logs() as lines:
        for number in range(1_000):
            log.add(Refusal(429, "Too many."), f"192.0.2.{number % 250}")
        log.add(Refusal(408, "Too late."), None)
        log.flush_all()
    assert [(line["status"], line["count"]) for line in lines] == [(429, 1), (408, 1)]
    assert lines[0]["log_level"] == "warning"

    monkeypatch.setattr("time.monotonic", lambda: 1e12)
    with capture_logs() as lines:
        log.flush_all()
    assert [(line["status"], line["count"], line["latest_client"]) for line in lines] == [(429, 999, "192.0.2.249")]
