"""Looks at what is due, for tests of claims."""

import datetime as dt

from ringback.models import claims, clock
from ringback.models.claims import Due, Held
from ringback.models.event import Event


def soon(now: dt.datetime, seconds: float = 0.5) -> dt.datetime:
    """Return the moment so many seconds after another one."""
    return now + dt.timedelta(seconds=seconds)


async def due_ids(until: float = 0.5, held: Held = claims.NOTHING_HELD) -> list[object]:
    """Return the ids of what is due within so many seconds from now, in order."""
    now = await clock.now()
    return [d.event_id for d in await look(now, until, held=held)]


async def look(now: dt.datetime, until: float = 0.5, limit: int = 100, held: Held = claims.NOTHING_HELD) -> list[Due]:
    """Return what is due within so many seconds after a moment, in order."""
    firsts, retries = await claims.due(soon(now, until), limit, held)
    return sorted([*firsts, *retries], key=lambda d: d.next_attempt_at)


async def age(event: Event, seconds: float) -> None:
    """Let the event's lease have ended `seconds` ago."""
    await Event.filter(id=event.id).update(due_at=await clock.now() - dt.timedelta(seconds=seconds))
