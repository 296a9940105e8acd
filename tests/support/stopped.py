"""Clocks that go on only when a test says so."""

import datetime as dt

from ringback.models.database.clock import Clock


class StoppedClock(Clock):
    """Stands in for `ringback.models.database.clock.running`, and for the clock that it returns."""

    def __init__(self, moment: dt.datetime) -> None:
        self.moment = moment

    async def __call__(self, db: object = None) -> "StoppedClock":
        return self

    def now(self) -> dt.datetime:
        return self.moment

    def advance(self, seconds: float) -> None:
        self.moment += dt.timedelta(seconds=seconds)


class StoppedTime:
    """Stands in for the module `time`, as far as its monotonic clock is concerned."""

    def __init__(self) -> None:
        self.moment = 1_000.0

    def monotonic(self) -> float:
        return self.moment

    def advance(self, seconds: float) -> None:
        self.moment += seconds
