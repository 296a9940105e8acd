"""Due events, written directly to the database as the product would write them, and the check of their delivery."""

import asyncio
import datetime as dt
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, Self
from uuid import UUID

import orjson
from tortoise.queryset import QuerySet

from bench.figures import Scale
from bench.installation import Installation
from bench.load import WrongResult
from ringback.models import bootstrap, load_secret_box
from ringback.models.database import clock
from ringback.models.enums import Action, EventStatus, OutcomeName
from ringback.models.event import Attempt, Change, Event
from ringback.models.ids import new_key
from ringback.models.security.signing import new_signing_secret
from ringback.models.webhook import Webhook
from tests.support import postgres
from tests.support.inserting import insert

#: The length of every delivered body, with or without a template.
BODY_BYTES = 200
#: Rows per INSERT.
CHUNK_ROWS = 5_000
#: How long recording all results may take.
RECORD_SECONDS = 60.0
#: Seconds between two counts of unrecorded events.
POLL_SECONDS = 0.01
#: Seconds that a worker has to start before the first event of a paced batch is due.
START_SECONDS = 6.0
#: The lowest expected rate of writing events, in events/s.
MIN_WRITE_RATE = 2_000
CHANGED = ["name", "phone"]
_FORM = (
    "id={{ item.id | url_encode }}&name={{ item.name | url_encode }}&phone={{ item.phone | url_encode }}"
    "&status={{ item.status }}&comment={{ item.comment | url_encode }}"
    "{% for field in event.changed_fields %}&changed={{ field }}{% endfor %}"
)
#: The rendered form without the comment.
_FORM_BODY = "id=lead_0000001&name=Maria&phone=%2B79990000000&status=NEW&comment=&changed=name&changed=phone"
_COMMENT = "Please call back in the afternoon"


def item(object_id: str) -> dict[str, Any]:
    """Return a lead whose JSON has BODY_BYTES."""
    lead = {"id": object_id, "name": "Maria", "phone": "+79990000000", "status": "NEW", "comment": _COMMENT, "note": ""}
    return {**lead, "note": "x" * (BODY_BYTES - len(orjson.dumps(lead)))}


#: A template with five fields and a loop. Its body has BODY_BYTES.
LIQUID = _FORM + "&" + "x" * (BODY_BYTES - len(_FORM_BODY) - len(_COMMENT) - 1)


@dataclass(frozen=True, slots=True)
class Webhooks:
    """Identical webhooks. `path` is their endpoint at the sink; an empty `template` means `sendJson`."""

    count: int = 20
    path: str = "/at-once/"
    template: str = ""

    def at_scale(self, scale: Scale) -> Self:
        """Return fewer webhooks on a smaller scale, if there are 100 or more."""
        return self if self.count < 100 else replace(self, count=scale.of(self.count, 100))


@dataclass(frozen=True, slots=True)
class Batch:
    """Events that were written together. `first` is the lowest id, `webhooks` those whose events count; None: all."""

    first: UUID
    count: int
    webhooks: Sequence[UUID] | None


def fill(installation: Installation, sink: str, events: int, *kinds: Webhooks, over_seconds: float = 0.0) -> Batch:
    """Write events for the webhooks in turn, due now, or evenly paced over `over_seconds` after a start-up time.

    The returned batch has the events of the first kind of webhooks only.
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
            first_due = now
            if over_seconds:
                first_due += dt.timedelta(seconds=START_SECONDS + events / MIN_WRITE_RATE)
            for start in range(0, events, CHUNK_ROWS):
                await _write(
                    webhooks, range(start, min(start + CHUNK_ROWS, events)), now, first_due, over_seconds / events
                )
            if not settings.is_embedded:
                for table in ("ringback_webhook", "ringback_change", "ringback_event"):
                    await Event._meta.db.execute_script(f"ANALYZE {table}")
            if len(kinds) == 1:
                return Batch(first, events, None)
            of_first_kind = [webhook.id for webhook in webhooks[: kinds[0].count]]
            count = sum(number % len(webhooks) < len(of_first_kind) for number in range(events))
            return Batch(first, count, of_first_kind)

    with postgres.other_statements():
        return asyncio.run(write())


async def _write(
    webhooks: Sequence[Webhook], numbers: range, now: dt.datetime, first_due: dt.datetime, step: float
) -> None:
    changes, events = [], []
    for number in numbers:
        object_id = f"lead_{number:07}"
        common: dict[str, Any] = {"model": "lead", "action": Action.UPDATED, "object_id": object_id, "created_at": now}
        change = Change(item=item(object_id), changed_fields=CHANGED, **common)
        due = first_due + dt.timedelta(seconds=number * step)
        webhook = webhooks[number % len(webhooks)]
        changes.append(change)
        events.append(
            Event(
                webhook_id=webhook.id, change_id=change.id, max_attempts=len(webhook.retry_delays),
                next_attempt_at=due, **common,
            )
        )  # fmt: skip
    await insert(Change._meta.db, changes)
    await insert(Event._meta.db, events)


def deliver_batch(
    installation: Installation,
    batch: Batch,
    deliver: AbstractContextManager[None],
    wait_for_requests: Callable[[], None],
) -> float:
    """Deliver a batch. Return the time at which all results were recorded, by the monotonic clock.

    `wait_for_requests` returns once all requests have arrived. Raises WrongResult unless every event succeeded at its
    first attempt.
    """

    async def wait() -> float:
        async with bootstrap.open_database(installation.settings):
            await _waiting(batch).exists()  # connects to the database before the measurement starts
            with deliver:
                await asyncio.to_thread(wait_for_requests)
                done = await _wait_until_recorded(batch)
            await _check(batch)
            return done

    with postgres.other_statements():
        return asyncio.run(wait())


def _events(batch: Batch) -> QuerySet[Event]:
    events = Event.filter(id__gte=batch.first)
    return events if batch.webhooks is None else events.filter(webhook_id__in=batch.webhooks)


def _waiting(batch: Batch, until: dt.datetime | None = None) -> QuerySet[Event]:
    return _events(batch).filter(next_attempt_at__lte=until or dt.datetime.now(dt.UTC))


async def _wait_until_recorded(batch: Batch) -> float:
    # Retries, and the waiting events of a filled database, are due minutes later.
    waiting = _waiting(batch, dt.datetime.now(dt.UTC) + dt.timedelta(seconds=RECORD_SECONDS))
    end = time.monotonic() + RECORD_SECONDS
    while await waiting.exists():
        if time.monotonic() > end:
            raise WrongResult(
                f"{await waiting.count()} of {batch.count} events are not recorded after {RECORD_SECONDS:g} s"
            )
        await asyncio.sleep(POLL_SECONDS)
    return time.monotonic()


async def _check(batch: Batch) -> None:
    succeeded = await _events(batch).filter(status=EventStatus.SUCCEEDED, attempt_count=1).count()
    attempts = Attempt.filter(event_id__gte=batch.first)
    if batch.webhooks is not None:
        attempts = attempts.filter(webhook_id__in=batch.webhooks)
    delivered = await attempts.filter(outcome=OutcomeName.DELIVERED).count()
    if (succeeded, delivered, await attempts.count()) != (batch.count,) * 3:
        raise WrongResult(
            f"of {batch.count} events {succeeded} succeeded at the first attempt; "
            f"{delivered} of {await attempts.count()} attempts delivered"
        )
