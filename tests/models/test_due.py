"""Which events are due, in which order, and what is left out."""

import datetime as dt
from uuid import UUID

import pytest

from ringback.models import claims, clock
from ringback.models.claims import Due, Held
from ringback.models.states import EventStatus
from tests.support import builders
from tests.support.claims import due_ids, soon

pytestmark = [pytest.mark.every_database, pytest.mark.usefixtures("database")]


async def test_due_events_come_in_the_order_of_their_moments() -> None:
    webhook = await builders.webhook()
    late = await builders.event(webhook, due_in=4_000)
    first = await builders.event(webhook, due_in=3_000)
    overdue = await builders.event(webhook, due_in=-60, status=EventStatus.RETRYING, abandoned_in_a_row=2)
    await builders.event(webhook, due_in=50_000)
    now = await clock.now()
    assert await claims.due(soon(now, 5_000), 100) == (
        [
            Due(first.id, webhook.id, first.next_attempt_at or now),
            Due(late.id, webhook.id, late.next_attempt_at or now),
        ],
        [Due(overdue.id, webhook.id, overdue.next_attempt_at or now, suspect=True, retry=True)],
    )
    assert [[d.event_id for d in found] for found in await claims.due(soon(now, 5_000), 1)] == [
        [first.id],
        [overdue.id],
    ]


async def test_what_is_held_is_neither_due_nor_next() -> None:
    busy, other = await builders.webhook(), await builders.webhook()
    one = await builders.event(busy)
    suspect = await builders.event(other, due_in=0.1, abandoned_in_a_row=2)
    plain = await builders.event(other, due_in=0.2)
    assert await due_ids() == [one.id, suspect.id, plain.id]
    assert await due_ids(held=Held([busy.id])) == [suspect.id, plain.id]
    assert await due_ids(held=Held(suspects=True)) == [one.id, plain.id]
    assert await due_ids(held=Held([busy.id], suspects=True)) == [plain.id]
    long_ago = await clock.now() - dt.timedelta(days=1)
    assert await claims.next_due(long_ago) == one.due_at
    assert await claims.next_due(long_ago, Held([busy.id])) == suspect.due_at
    assert await claims.next_due(long_ago, Held([busy.id], suspects=True)) == plain.due_at
    assert await claims.next_due(long_ago, Held([busy.id, other.id])) is None
    assert suspect.due_at is not None
    assert await claims.next_due(suspect.due_at) == plain.due_at


async def test_ended_events_are_never_due() -> None:
    webhook = await builders.webhook()
    for status in (EventStatus.SUCCEEDED, EventStatus.FAILED, EventStatus.CANCELLED):
        await builders.event(webhook, status=status, next_attempt_at=None, due_at=None)
    assert await due_ids() == []
    assert await claims.next_due(await clock.now() - dt.timedelta(days=1)) is None


async def test_webhook_by_webhook_no_backlog_hides_another_one() -> None:
    webhooks = sorted([await builders.webhook() for _ in range(4)], key=lambda webhook: webhook.id)
    one, held, idle, last = webhooks
    retry = {"status": EventStatus.RETRYING, "attempt_count": 1}
    for webhook in (one, held):
        for number in range(5):
            await builders.event(webhook, due_in=number - 60)
            await builders.event(webhook, due_in=number - 60, **retry)
    await builders.event(idle, due_in=50_000)
    of_last, suspect = await builders.event(last), await builders.event(last, due_in=-1, abandoned_in_a_row=2)
    until = soon(await clock.now())

    async def turn(limit: int, after: UUID, holding: Held) -> tuple[list[tuple[UUID, bool]], UUID]:
        firsts, retries, reached = await claims.due_by_webhook(until, limit, 2, after, holding)
        moments = [d.next_attempt_at for d in firsts if d.webhook_id == one.id]
        assert moments == sorted(moments)
        return [(d.webhook_id, d.retry) for d in [*firsts, *retries]], reached

    of_one = [(one.id, False)] * 2
    all_kinds = [*of_one, *[(last.id, False)] * 2, *[(one.id, True)] * 2]
    start = claims.FIRST_WEBHOOK
    assert await turn(100, start, Held([held.id])) == (all_kinds, start)
    assert await turn(2, start, Held([held.id], retries=True)) == (of_one, one.id)
    assert await turn(2, one.id, Held([held.id], retries=True)) == ([(last.id, False)] * 2, last.id)
    assert await turn(2, last.id, Held([held.id])) == ([], start)
    firsts, _, _ = await claims.due_by_webhook(until, 100, 2, held.id, Held(suspects=True))
    assert [d.event_id for d in firsts] == [of_last.id] != [suspect.id]
