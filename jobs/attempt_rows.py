"""The rows of a recorded attempt: the attempt itself, its event afterwards, and the entries of the delivery log."""

import datetime as dt
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import UUID

from ringback.jobs.attempt_json import request_to_json, response_to_json
from ringback.jobs.result import Result
from ringback.jobs.retry import Progress, retry_after_seconds
from ringback.models.enums import EventStatus, LogKind
from ringback.models.event import Event
from ringback.models.queue.claims import ClaimedEvent
from ringback.models.redaction import Redaction
from ringback.models.timestamps import format_timestamp

_END_KINDS = {
    EventStatus.SUCCEEDED: LogKind.EVENT_SUCCEEDED,
    EventStatus.FAILED: LogKind.EVENT_FAILED,
    EventStatus.CANCELLED: LogKind.EVENT_CANCELLED,
}


@dataclass(slots=True, eq=False)
class RecordedAttempt:
    """A result to write, with the event before the attempt and its progress after it. `error` is redacted."""

    event: Event | ClaimedEvent
    result: Result
    error: str | None
    progress: Progress
    attempt_id: UUID


class AttemptRow(NamedTuple):
    """The columns of a new attempt."""

    id: UUID
    event_id: UUID
    webhook_id: UUID
    number: int
    started_at: dt.datetime
    duration_ms: int | None
    outcome: str
    error: str | None
    status_code: int | None
    request: dict[str, Any] | None
    response: dict[str, Any] | None


class LogRow(NamedTuple):
    """The columns of a new entry of the delivery log."""

    at: dt.datetime
    kind: LogKind
    message: str
    webhook_id: UUID
    event_id: UUID
    attempt_id: UUID
    model: str


def attempt_row(attempt: RecordedAttempt, redaction: Redaction) -> AttemptRow:
    """Return the attempt, with its request and response as redacted JSON."""
    event, result = attempt.event, attempt.result
    outcome = result.outcome
    request_json = response_json = status_code = None
    if result.request is not None:
        request_json = request_to_json(result.request, redaction)
    if outcome.response is not None:
        response_json = response_to_json(outcome.response, redaction)
        status_code = outcome.response.status
    return AttemptRow(
        id=attempt.attempt_id,
        event_id=event.id,
        webhook_id=event.webhook_id,
        number=attempt.progress.attempt_count,
        started_at=result.started_at,
        duration_ms=result.duration_ms,
        outcome=outcome.name,
        error=attempt.error,
        status_code=status_code,
        request=request_json,
        response=response_json,
    )


def log_rows(attempt: RecordedAttempt) -> list[LogRow]:
    """Return the delivery log's entries: the attempt, then the scheduled retry or the end of the event."""
    event, progress, at = attempt.event, attempt.progress, attempt.result.ended_at
    keys = event.webhook_id, event.id, attempt.attempt_id, event.model
    rows = [LogRow(at, LogKind.ATTEMPT_FINISHED, _attempt_message(attempt), *keys)]
    number = progress.attempt_count
    if progress.next_attempt_at is not None:
        due_at = format_timestamp(progress.next_attempt_at)
        message = f"Attempt {number + 1} of {progress.max_attempts} due at {due_at}"
        asked_seconds = retry_after_seconds(attempt.result.outcome, at)
        if asked_seconds > 0 and progress.next_attempt_at == at + dt.timedelta(seconds=asked_seconds):
            message += " (Retry-After)"
        rows.append(LogRow(at, LogKind.RETRY_SCHEDULED, message, *keys))
    elif progress.finished_at == at:
        attempts = "1 attempt" if number == 1 else f"{number} attempts"
        message = f"{progress.status.capitalize()} after {attempts}"
        rows.append(LogRow(at, _END_KINDS[progress.status], message, *keys))
    return rows


def _attempt_message(attempt: RecordedAttempt) -> str:
    outcome, duration_ms = attempt.result.outcome, attempt.result.duration_ms
    message = f"Attempt {attempt.progress.attempt_count} of {attempt.progress.max_attempts}: {outcome.name}"
    if outcome.response is not None:
        message += f" ({outcome.response.status})"
    if duration_ms is not None:
        message += f" in {duration_ms} ms"
    if attempt.error is not None:
        message += f". {attempt.error}"
    request = attempt.result.request
    if request is not None and request.note is not None:
        message = f"{message.removesuffix('.')}. {request.note}"
    return message
