"""Events that are due, written as the product itself would have left them, and what must have become of them."""

import asyncio
import datetime as dt
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson
from tortoise.queryset import QuerySet

from bench.installation import Installation
from bench.load import Wrong
from ringback.models import bootstrap, load_secret_box
from ringback.models.database import clock
from ringback.models.enums import Action, EventStatus, OutcomeName
from ringback.models.event import Attempt, Change, Event
from ringback.models.ids import new_key
from ringback.models.security.signing import new_signing_secret
from ringback.models.webhook import Webhook
from tests.support import postgres
from tests.support.inserting import insert

#: Every body that is delivered, by a template or not, has so many bytes.
BODY_BYTES = 200
#: Rows that are written by one statement.
CHUNK = 5_000
#: How long recording what was sent may take, in seconds.
RECORD_SECONDS = 60.0
#: How often it is asked whether all is recorded, in seconds.
ASK_SECONDS = 0.01
#: How long a worker has to start before events that are due one after the other begin to be, in seconds.
START_SECONDS = 6.0
#: How many events a second are written before that, at least.
WRITTEN_PER_SECOND = 2_000
CHANGED = ["name", "phone"]
_FORM = (
    "id={{ item.id | url_encode }}&name={{ item.name | url_encode }}&phone={{ item.phone | url_encode }}"
    "&status={{ item.status }}&comment={{ item.comment | url_encode }}"
    "{% for field in event.changed_fields %}&changed={{ field }}{% endfor %}"
)
#: What it makes of an item, but for a comment of its own.
_FORM_BODY = "id=lead_0000001&name=Maria&phone=%2B79990000000&status=NEW&comment=&changed=name&changed=phone"
_COMMENT = "Please call back in the afternoon"


def item(object_id: str) -> dict[str, Any]:
    """A lead that has BODY_BYTES as JSON."""
    lead = {"id": object_id, "name": "Maria", "phone": "+79990000000", "status": "NEW", "comment": _COMMENT, "note": ""}
    return {**lead, "note": "x" * (BODY_BYTES - len(orjson.dumps(lead)))}


#: A template of five fields and one loop, whose body has BODY_BYTES.
LIQUID = _FORM + "&" + "x" * (BODY_BYTES - len(_FORM_BODY) - len(_COMMENT) - 1)


@dataclass(frozen=True, slots=True)
class Webhooks:
    """Some webhooks that are alike; `path` is that of their endpoint at the sink, `template` empty for `sendJson`."""

    count: int = 20
    path: str = "/at-once/"
    template: str = ""


@dataclass(frozen=True, slots=True)
class Batch:
    """Events that were written together, and when they were all due."""

    first: UUID
    count: int
    webhooks: Sequence[UUID]


def fill(installation: Installation, sink: str, events: int, *kinds: Webhooks, over_seconds: float = 0.0) -> Batch:
    """Write events of these webhooks in turn, due now, or one after the other during `over_seconds` from soon on.

    The batch is that of the first kind of webhooks; the events of others are there besides.
    """

    async def write() -> Batch:
        settings = installation.settings
        await bootstrap.migrate(settings)
        async with bootstrap.open_database(settings):
            now = await clock.now()
            box = load_secret_box(settings)
            webhooks = [
                Webhook(
                    model="lead", actions=[Action.UPDATED], url=f"{sink}{kind.path}{number}", created_at=now,
                    send_json=not kind.template, body_template=kind.template, updated_at=now,
                    signing_secret=box.seal(new_signing_secret()),
                )
                for kind in kinds for number in range(kind.count)
            ]  # fmt: skip
            await insert(Webhook._meta.db, webhooks)
            first = new_key()
            begin = now + dt.timedelta(seconds=START_SECONDS + events / WRITTEN_PER_SECOND if over_seconds else 0)
            for start in range(0, events, CHUNK):
                await _write(webhooks, range(start, min(start + CHUNK, events)), now, begin, over_seconds / events)
            if not settings.is_embedded:
                for table in ("ringback_webhook", "ringback_change", "ringback_event"):
                    await Event._meta.db.execute_script(f"ANALYZE {table}")
            own = [webhook.id for webhook in webhooks[: kinds[0].count]]
            return Batch(first, sum(number % len(webhooks) < len(own) for number in range(events)), own)

    with postgres.other_statements():
        return asyncio.run(write())


async def _write(
    webhooks: Sequence[Webhook], numbers: range, now: dt.datetime, begin: dt.datetime, step: float
) -> None:
    changes, events = [], []
    for number in numbers:
        object_id = f"lead_{number:07}"
        what: dict[str, Any] = {"model": "lead", "action": Action.UPDATED, "object_id": object_id, "created_at": now}
        change = Change(item=item(object_id), changed_fields=CHANGED, **what)
        due = begin + dt.timedelta(seconds=number * step)
        webhook = webhooks[number % len(webhooks)]
        changes.append(change)
        events.append(
            Event(
                webhook_id=webhook.id, change_id=change.id, max_attempts=len(webhook.retry_delays),
                next_attempt_at=due, **what,
            )
        )  # fmt: skip
    await insert(Change._meta.db, changes)
    await insert(Event._meta.db, events)


def recorded(
    installation: Installation, batch: Batch, deliver: AbstractContextManager[None], arrived: Callable[[], None]
) -> float:
    """Have a batch delivered; returns when each event of it was recorded, by the monotonic clock.

    `arrived` waits until all requests have come. Raises Wrong unless each event has succeeded by one attempt.
    """

    async def wait() -> float:
        async with bootstrap.open_database(installation.settings):
            await _waiting(batch).exists()  # so that connecting to the database is not part of what is measured
            with deliver:
                await asyncio.to_thread(arrived)
                done = await _all_recorded(batch)
            await _check(batch)
            return done

    with postgres.other_statements():
        return asyncio.run(wait())


def _events(batch: Batch) -> QuerySet[Event]:
    return Event.filter(id__gte=batch.first, webhook_id__in=batch.webhooks)


def _waiting(batch: Batch, until: dt.datetime | None = None) -> QuerySet[Event]:
    return _events(batch).filter(next_attempt_at__lte=until or dt.datetime.now(dt.UTC))


async def _all_recorded(batch: Batch) -> float:
    # What has to be tried again is due minutes later, as are waiting events of the past.
    waiting = _waiting(batch, dt.datetime.now(dt.UTC) + dt.timedelta(seconds=RECORD_SECONDS))
    end = time.monotonic() + RECORD_SECONDS
    while await waiting.exists():
        if time.monotonic() > end:
            raise Wrong(f"{await waiting.count()} of {batch.count} events are still not recorded")
        await asyncio.sleep(ASK_SECONDS)
    return time.monotonic()


async def _check(batch: Batch) -> None:
    succeeded = await _events(batch).filter(status=EventStatus.SUCCEEDED, attempt_count=1).count()
    attempts = Attempt.filter(event_id__gte=batch.first, webhook_id__in=batch.webhooks)
    delivered = await attempts.filter(outcome=OutcomeName.DELIVERED).count()
    if (succeeded, delivered, await attempts.count()) != (batch.count,) * 3:
        raise Wrong(
            f"of {batch.count} events {succeeded} succeeded at once; "
            f"{delivered} of {await attempts.count()} attempts delivered"
        )
