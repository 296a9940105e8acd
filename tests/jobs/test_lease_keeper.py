"""The lease keeper: renewals, declarations of death, and the orphans of dead workers."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from tortoise.exceptions import OperationalError

from ringback.jobs import lease_keeper
from ringback.jobs.attempt_writer import write_attempts
from ringback.models.database import clock
from ringback.models.enums import EventStatus
from ringback.models.event import Event
from ringback.models.queue import workers
from ringback.models.queue.workers import register_worker
from ringback.models.worker import Worker
from tests.support import builders
from tests.support.deliverers import Bench
from tests.support.eventually import eventually, eventually_found
from tests.support.patience import PATIENCE_SECONDS

pytestmark = [pytest.mark.on_postgres, pytest.mark.usefixtures("database", "_quick_looks")]

MakeBench = Callable[..., Awaitable[Bench]]


@pytest.fixture
def _quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look a hundred times a second."""
    monkeypatch.setattr(lease_keeper, "LOOK_SECONDS", 0.01)


async def expired_worker() -> workers.WorkerLease:
    """Register a worker whose lease has expired a second ago."""
    lease = await register_worker(builders.LEASE_SECONDS)
    await Worker.filter(id=lease.worker_id).update(alive_until=await builders.later(-1))
    return lease


async def is_registered(lease: workers.WorkerLease) -> bool:
    return await Worker.filter(id=lease.worker_id).exists()


async def test_a_lease_is_renewed_each_third_of_it(make_bench: MakeBench) -> None:
    bench = await make_bench(is_alone=False, lease_seconds=3.0)
    lease = bench.keeper.lease
    first_end = lease.ends_at

    async with bench.keep_lease():
        await asyncio.sleep(0.3)
        assert lease.ends_at == first_end
        await eventually(lambda: lease.ends_at > first_end)

    assert lease.ends_at - first_end >= 1.0
    assert not lease.is_expired()
    assert bench.keeper.lease is lease


async def test_the_lease_ends_no_later_here_than_in_the_database(make_bench: MakeBench) -> None:
    bench = await make_bench(is_alone=False, lease_seconds=30.0)

    row = await Worker.get(id=bench.keeper.lease.worker_id)

    assert row.alive_until is not None
    left_in_database = (row.alive_until - await clock.now()).total_seconds()
    left_here = bench.keeper.lease.ends_at - clock.read_uptime()
    assert left_here <= left_in_database + 0.005
    assert left_in_database == pytest.approx(30.0, abs=5.0)


async def test_an_expired_lease_that_nobody_declared_dead_is_renewed(make_bench: MakeBench) -> None:
    bench = await make_bench(is_alone=False)
    lease = bench.keeper.lease
    lease.ends_at = 0.0
    await Worker.filter(id=lease.worker_id).update(alive_until=await builders.later(-100))

    async with bench.keep_lease():
        await eventually(lambda: not bench.keeper.lease.is_expired())

    assert bench.keeper.lease is lease
    row = await Worker.get(id=lease.worker_id)
    assert row.alive_until is not None
    assert row.alive_until > await clock.now()


async def test_a_worker_declared_dead_goes_on_under_a_new_id(make_bench: MakeBench) -> None:
    bench = await make_bench(is_alone=False)
    dead = bench.keeper.lease
    await builders.die(dead)
    dead.ends_at = 0.0

    async with bench.keep_lease():
        await eventually(lambda: bench.keeper.lease is not dead)

    assert bench.keeper.lease.worker_id != dead.worker_id
    assert not bench.keeper.lease.is_expired()
    assert dead.is_expired(), "attempts claimed under the old id must not be sent"
    assert await is_registered(bench.keeper.lease)
    assert not await is_registered(dead)


async def test_a_worker_declared_dead_still_records_its_late_result(make_bench: MakeBench) -> None:
    bench = await make_bench(is_alone=False)
    event = await builders.event(await builders.webhook())
    bench.endpoint.hold()
    await bench.start(event)
    await bench.endpoint.wait_for_requests()
    dead = bench.keeper.lease
    await builders.die(dead)
    dead.ends_at = 0.0

    async with bench.keep_lease():
        await eventually(lambda: bench.keeper.lease is not dead)
        await asyncio.sleep(0.1)
        assert await builders.attempts(event) == [], "the keeper must not abandon what this process still delivers"
        bench.endpoint.release()
        await bench.wait_until_idle()

    assert [(a.number, a.outcome) for a in await builders.attempts(event)] == [(1, "DELIVERED")]
    assert (await builders.stored(event)).status is EventStatus.SUCCEEDED


async def test_attempts_of_a_dead_worker_are_abandoned_and_due_again(make_bench: MakeBench) -> None:
    bench = await make_bench(is_alone=False)
    event = await builders.event(await builders.webhook())
    dead = await builders.claim(event)
    claimed_at = (await builders.stored(event)).claimed_at
    await builders.die(dead)

    async with bench.keep_lease():
        await eventually_found(lambda: builders.attempts(event))

    (attempt,) = await builders.attempts(event)
    assert (attempt.number, attempt.outcome, attempt.started_at) == (1, "ABANDONED", claimed_at)
    stored = await builders.stored(event)
    assert (stored.status, stored.worker_id, stored.abandoned_in_a_row) == (EventStatus.RETRYING, None, 1)
    assert stored.next_attempt_at is not None
    assert stored.next_attempt_at <= await clock.now()


async def test_five_dead_workers_in_a_row_fail_the_event(make_bench: MakeBench) -> None:
    bench = await make_bench(is_alone=False)
    event = await builders.event(await builders.webhook())

    async with bench.keep_lease():
        for number in range(1, 6):
            await builders.die(await builders.claim(event))
            await eventually_found(lambda: has_attempts(event, number))  # noqa: B023

    assert [a.outcome for a in await builders.attempts(event)] == ["ABANDONED"] * 5
    assert (await builders.stored(event)).status is EventStatus.FAILED


async def has_attempts(event: Event, number: int) -> bool:
    return len(await builders.attempts(event)) == number


async def test_an_expired_worker_is_declared_dead_after_a_whole_lease(make_bench: MakeBench) -> None:
    bench = await make_bench(is_alone=False, lease_seconds=1.5)
    started = clock.read_uptime()
    expired, alive = await expired_worker(), await register_worker(builders.LEASE_SECONDS)

    async with bench.keep_lease():
        while await is_registered(expired):
            await asyncio.sleep(0.01)
        seconds = clock.read_uptime() - started

    assert seconds >= 1.4
    assert await is_registered(alive)
    assert await is_registered(bench.keeper.lease)


async def test_a_failed_renewal_postpones_the_declaration_of_death(
    make_bench: MakeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = await make_bench(is_alone=False, lease_seconds=1.5)
    expired = await expired_worker()
    find_orphans = workers.find_orphans
    failing_until = clock.read_uptime() + 1.2

    async def away_at_first(limit: int) -> list[workers.Orphan]:
        if clock.read_uptime() < failing_until:
            raise OperationalError("the database does not answer")
        return await find_orphans(limit)

    monkeypatch.setattr(workers, "find_orphans", away_at_first)
    async with bench.keep_lease():
        while await is_registered(expired):
            await asyncio.sleep(0.01)
        seconds_after_outage = clock.read_uptime() - failing_until

    assert seconds_after_outage >= 1.4


async def test_after_an_outage_longer_than_the_lease_nobody_is_declared_dead(make_bench: MakeBench) -> None:
    one, other = [await make_bench(is_alone=False, lease_seconds=3.0) for _ in range(2)]
    leases = [one.keeper.lease, other.keeper.lease]
    for lease in leases:
        lease.ends_at = 0.0
        await Worker.filter(id=lease.worker_id).update(alive_until=await builders.later(-60))
        # Both have renewed for long: the outage itself must reset that.
    one.keeper._steady_since = other.keeper._steady_since = clock.read_uptime() - 60

    async with one.keep_lease(), other.keep_lease():
        await eventually(lambda: not any(bench.keeper.lease.is_expired() for bench in (one, other)))
        await asyncio.sleep(0.2)

    assert [one.keeper.lease, other.keeper.lease] == leases
    assert await is_registered(leases[0])
    assert await is_registered(leases[1])


async def test_peers_are_known_after_a_renewal(make_bench: MakeBench) -> None:
    bench = await make_bench(is_alone=False)
    assert not bench.keeper.has_peers
    await register_worker(builders.LEASE_SECONDS)
    bench.keeper.lease.ends_at = 0.0

    async with bench.keep_lease():
        await eventually(lambda: bench.keeper.has_peers)


async def test_leaving_releases_unsent_events_and_deletes_the_row(make_bench: MakeBench) -> None:
    bench = await make_bench(is_alone=False)
    event = await builders.event(await builders.webhook())
    await builders.claim(event, lease=bench.keeper.lease)

    await bench.keeper.leave()

    assert not await is_registered(bench.keeper.lease)
    stored = await builders.stored(event)
    assert (stored.status, stored.worker_id, stored.next_attempt_at) == (
        EventStatus.PENDING,
        None,
        event.next_attempt_at,
    )


async def test_leaving_keeps_the_claim_of_a_result_not_recorded(
    make_bench: MakeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = await make_bench(is_alone=False)
    event = await builders.event(await builders.webhook())
    never = asyncio.Event()

    async def write_never(results: object) -> None:
        await never.wait()

    with monkeypatch.context() as patch:
        patch.setattr(bench.recorder, "_write", write_never)
        await bench.start(event)
        await eventually(lambda: len(bench.recorder) == 1)
        await bench.keeper.leave()

    stored = await builders.stored(event)
    assert stored.worker_id == bench.keeper.lease.worker_id
    assert [orphan.event_id for orphan in await workers.find_orphans(10)] == [event.id]
    bench.recorder._is_idle.set()  # the write above never ends, but the fixture drains
    await write_attempts([builders.result(event, bench.keeper.lease, builders.OK, ended_at=await clock.now())])


async def test_a_database_away_does_not_end_the_keeper(make_bench: MakeBench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = await make_bench(is_alone=False, lease_seconds=0.3)
    renew = workers.renew
    failures: list[Exception] = [OSError("unreachable"), KeyError("anything"), OperationalError("locked")]

    async def renew_or_fail(lease: workers.WorkerLease, lease_seconds: float) -> bool:
        if failures:
            raise failures.pop()
        return await renew(lease, lease_seconds)

    monkeypatch.setattr(workers, "renew", renew_or_fail)
    end = bench.keeper.lease.ends_at
    async with bench.keep_lease(), asyncio.timeout(PATIENCE_SECONDS):
        await eventually(lambda: bench.keeper.lease.ends_at > end)

    assert failures == []


async def test_a_renewal_that_gets_no_answer_is_given_up(
    make_bench: MakeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = await make_bench(is_alone=False, lease_seconds=0.6)
    renew = workers.renew
    hung = False

    async def hanging_once(lease: workers.WorkerLease, lease_seconds: float) -> bool:
        nonlocal hung
        if not hung:
            hung = True
            await asyncio.Event().wait()
        return await renew(lease, lease_seconds)

    monkeypatch.setattr(workers, "renew", hanging_once)
    end = bench.keeper.lease.ends_at
    async with bench.keep_lease():
        await eventually(lambda: bench.keeper.lease.ends_at > end)

    assert hung
