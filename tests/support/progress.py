"""Where an event stands, and where it stands after some attempts."""

import datetime as dt

from ringback.jobs.outcomes import Abandoned, Delivered, HttpResponse, Outcome, Rejected
from ringback.jobs.retry import Progress, after_attempt
from ringback.models.enums import EventStatus

NOW = dt.datetime(2026, 3, 1, 12, 0, 0, tzinfo=dt.UTC)
FRESH = Progress(EventStatus.PENDING, 0, 0, 0, 3)
SCHEDULE = (5, 240, 480)
OK = Delivered(HttpResponse(200))
REFUSED = Rejected(HttpResponse(500), "500")
DIED = Abandoned()


def asking(value: str, status: int = 503) -> Rejected:
    """Return a refusal with the header Retry-After."""
    return Rejected(HttpResponse(status, (("Content-Type", "text/plain"), ("retry-after", value))), "503")


def later(seconds: float) -> dt.datetime:
    """Return the moment so many seconds after NOW."""
    return NOW + dt.timedelta(seconds=seconds)


def after(
    progress: Progress, *outcomes: Outcome, delays: tuple[int, ...] = SCHEDULE, stopped: bool = False
) -> Progress:
    """Return where an event stands after attempts with these outcomes."""
    for outcome in outcomes:
        progress = after_attempt(progress, outcome, NOW, delays, stopped=stopped)
    return progress
