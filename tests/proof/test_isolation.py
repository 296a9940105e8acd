"""Webhooks are isolated from each other, and first attempts from retries, on the really started program.

On the embedded default, and with two worker processes on Postgres and Redis, whose limits must hold together.
"""

import asyncio
import datetime as dt
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.support import postgres
from tests.support.deliveries import create_webhook, open_database, test_fire
from tests.support.endpoints import Endpoints
from tests.support.patience import PATIENCE_SECONDS
from tests.support.program import Program, worker
from tests.support.receiver import ALLOW_LOOPBACK
from tests.support.servers import redis_server

pytestmark = pytest.mark.alone

DECLARE = """
mutation ($name: String!) { declareModel(input: {
  name: $name, label: "Thing", jsonSchema: {type: "object"}, sample: {}
}) { errors { message } } }
"""
PUBLISH = "mutation ($input: PublishChangesInput!) { publishChanges(input: $input) { errors { message } } }"
UPDATE = "mutation ($input: UpdateWebhookInput!) { updateWebhook(input: $input) { errors { message } } }"
#: What makes the events of a model due, as they are after a first attempt that failed.
AS_RETRIES = """
UPDATE ringback_event SET status = 'RETRYING', attempt_count = 1, next_attempt_at = $1 WHERE model = $2
"""
#: How long a rate is watched, in seconds.
SECONDS = 10


@dataclass
class Place:
    """A started program that delivers to these endpoints; `database_url` is empty on SQLite."""

    program: Program
    endpoints: Endpoints
    database_url: str = ""
    #: How late events of a webhook came while it was the only one: the control.
    undisturbed: list[float] = field(default_factory=list)

    def measure_undisturbed(self) -> None:
        """Fill in the control: nothing else may be waiting."""
        webhook = self.webhook("/undisturbed")
        self.undisturbed = self.lateness("/undisturbed", self.fired([webhook], 2.0))
        self.update(webhook, isActive=False)

    def declare(self, model: str) -> None:
        """Make a model whose changes can be published."""
        assert self.program.query(DECLARE, {"name": model})["declareModel"]["errors"] == []

    def webhook(self, path: str, **fields: Any) -> str:
        """The id of a webhook whose attempts are made as soon as they may be."""
        given = {"retryDelaysSeconds": [0, 0], "sendJson": True, "actions": ["UPDATED"], **fields}
        return create_webhook(self.program, self.endpoints.url + path, **given)

    def update(self, webhook: str, **fields: Any) -> None:
        """Change a webhook."""
        updated = self.program.query(UPDATE, {"input": {"id": webhook, **fields}})
        assert updated["updateWebhook"]["errors"] == []

    def publish(self, model: str, changes: int) -> None:
        """Publish so many changes at once; each fires all webhooks of the model."""
        given = [{"model": model, "action": "UPDATED", "objectId": str(n), "item": {}} for n in range(changes)]
        assert self.program.query(PUBLISH, {"input": {"changes": given}})["publishChanges"]["errors"] == []

    def make_retries_due(self, model: str) -> int:
        """Have all waiting events of a model be retries that are due now; returns how many there are."""
        now = dt.datetime.now(dt.UTC)
        if not self.database_url:
            with open_database(self.program) as connection:
                return connection.execute(AS_RETRIES.replace("$", "?"), [str(now), model]).rowcount

        async def update() -> str:
            connection = await asyncpg.connect(self.database_url)
            try:
                return str(await connection.execute(AS_RETRIES, now, model))
            finally:
                await connection.close()

        return int(asyncio.run(update()).split()[1])

    def fired(self, webhooks: Sequence[str], seconds: float) -> dict[str, float]:
        """Test-fire webhooks in turn for so long; when each event was there, by the monotonic clock."""
        end = time.monotonic() + seconds
        found: dict[str, float] = {}
        while time.monotonic() < end:
            for webhook in webhooks:
                event_id = test_fire(self.program, webhook)
                found[event_id] = time.monotonic()
                time.sleep(0.05)
        return found

    def lateness(self, path: str, fired: dict[str, float]) -> list[float]:
        """How long after they were there events came to a path, in seconds, the shortest first."""
        waited = self.program.wait_until
        waited(lambda: fired.keys() <= self.endpoints.came(path).keys(), f"all events at {path}")
        came = self.endpoints.came(path)
        return sorted(came[event_id] - moment for event_id, moment in fired.items())

    def wait_for(self, path: str, requests: int, seconds: float = 2 * PATIENCE_SECONDS) -> None:
        """Wait until so many requests have come to a path."""
        what = f"{requests} requests to {path}"
        self.program.wait_until(lambda: len(self.endpoints.arrivals[path]) >= requests, what, seconds)


@contextmanager
def embedded(folder: Path, settings: Mapping[str, str] | None = None) -> Iterator[Place]:
    env = {**ALLOW_LOOPBACK, **(settings or {})}
    with Endpoints() as endpoints, Program(folder / "program", env=env) as program:
        place = Place(program, endpoints)
        place.measure_undisturbed()
        yield place


@contextmanager
def two_workers(folder: Path, template: str, settings: Mapping[str, str] | None = None) -> Iterator[Place]:
    url = asyncio.run(postgres.create(template, template))
    try:
        with ExitStack() as stack:
            endpoints = stack.enter_context(Endpoints())
            redis = stack.enter_context(redis_server(folder))
            urls = {"RINGBACK_DATABASE_URL": url, "RINGBACK_BROKER_URL": redis.url}
            env = {**ALLOW_LOOPBACK, **urls, **(settings or {})}
            program = stack.enter_context(Program(folder / "program", "api", env))
            for _ in range(2):
                stack.enter_context(worker(program, env))
            place = Place(program, endpoints, url)
            place.measure_undisturbed()
            yield place
    finally:
        asyncio.run(postgres.drop(template, url))


@pytest.fixture(scope="module", params=["embedded", "two workers"])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """One for all tests, each of which has models and paths of its own: starting it takes longer than most of them."""
    folder = tmp_path_factory.mktemp("isolation")
    if request.param == "embedded":
        with embedded(folder) as place:
            yield place
    else:
        with two_workers(folder, request.getfixturevalue("migrated_postgres")) as place:
            yield place


def test_a_rate_and_bounds_hold_in_all_workers_together(place: Place) -> None:
    """The rate until it is cleared; the webhooks beside it have a bound of their own, and the default."""
    place.declare("limited")
    paced = place.webhook("/paced", model="limited", rateLimitPerSecond=20)
    place.webhook("/wait/50/three", model="limited", maxConcurrency=3)
    place.webhook("/wait/1000/fifty", model="limited")
    place.publish("limited", 500)
    place.wait_for("/paced", 1)
    time.sleep(SECONDS)
    moments = sorted(place.endpoints.came("/paced").values())
    came = sum(moment < moments[0] + SECONDS for moment in moments)
    # A request that is late by so much may be counted with the others, or not be counted.
    late = 20 * place.undisturbed[-1]
    assert 0.9 * 20 * SECONDS - late <= came <= 1.1 * 20 * SECONDS + late
    place.update(paced, rateLimitPerSecond=None)
    cleared = time.monotonic()
    for path in ("/paced", "/wait/50/three", "/wait/1000/fifty"):
        place.wait_for(path, 500)
        assert len(place.endpoints.came(path)) == len(place.endpoints.arrivals[path]) == 500, "each of them once"
    left = [moment - cleared for moment in place.endpoints.came("/paced").values() if moment > cleared]
    assert len(left) > 100
    assert statistics.median(left) < place.program.allowed(2.5), "at 20 a second it would be 7 s"
    assert place.endpoints.peaks["/wait/50/three"] == 3
    assert 40 <= place.endpoints.peaks["/wait/1000/fifty"] <= 50


def test_first_attempts_are_not_late_while_retries_flood(place: Place) -> None:
    place.declare("flood")
    flooded = [f"/wait/1000/{number}" for number in range(20)]
    webhooks = [place.webhook(path, model="flood", retryDelaysSeconds=[3_600, 0]) for path in flooded]
    place.publish("flood", 100)
    assert place.make_retries_due("flood") == 2_000
    healthy = place.webhook("/beside-retries")
    place.wait_for(flooded[0], 1)
    fired = place.fired([healthy], 1.0)
    of_flooded = {test_fire(place.program, webhooks[0]): time.monotonic()}
    assert sum(len(place.endpoints.arrivals[path]) for path in flooded) < 2_000, "the flood is not over"
    _check_lateness(place, "/beside-retries", fired)
    late = place.lateness(flooded[0], of_flooded)[0]
    assert late < place.program.allowed(2.5), "an attempt of the webhook takes a second"


def test_endpoints_that_hang_hold_up_nobody_else(place: Place) -> None:
    place.declare("hanging")
    for number in range(4):
        place.webhook(f"/hang/{number}", model="hanging", retryDelaysSeconds=[0])
    place.publish("hanging", 400)
    place.wait_for("/hang/3", 1)
    healthy = [place.webhook(f"/healthy/{number}") for number in range(2)]
    _check_lateness(place, "/healthy/0", place.fired(healthy[:1], 1.0))
    _check_lateness(place, "/healthy/1", place.fired(healthy[1:], 1.0))
    assert all(40 <= place.endpoints.peaks[f"/hang/{number}"] <= 50 for number in range(4))


def test_endpoints_that_hang_leave_places_in_small_workers(tmp_path: Path, migrated_postgres: str) -> None:
    """Each of them may have more attempts in flight than both workers have slots. All time out at the same time."""
    with two_workers(tmp_path, migrated_postgres, {"RINGBACK_WORKER_CONCURRENCY": "20"}) as place:
        place.declare("hanging")
        for number in range(8):
            place.webhook(f"/hang/{number}", model="hanging", retryDelaysSeconds=[0])
        healthy = place.webhook("/healthy")
        place.publish("hanging", 100)
        place.wait_for("/hang/7", 1)
        _check_lateness(place, "/healthy", place.fired([healthy], 5.0))
        assert sum(place.endpoints.peaks[f"/hang/{number}"] for number in range(8)) >= 30


def test_many_webhooks_that_hang_leave_slots_for_prompt_ones(tmp_path: Path) -> None:
    """Each may have only one attempt in flight; together they have more events than the worker has slots."""
    with embedded(tmp_path, {"RINGBACK_WORKER_CONCURRENCY": "40"}) as place:
        healthy = place.webhook("/healthy")
        _check_lateness(place, "/healthy", place.fired([healthy], 0.5))
        place.declare("hanging")
        for number in range(60):
            place.webhook(f"/hang/{number}", model="hanging", retryDelaysSeconds=[0], maxConcurrency=1)
        place.publish("hanging", 3)
        place.program.wait_until(lambda: len(place.endpoints.peaks) >= 37, "35 attempts that hang")
        _check_lateness(place, "/healthy", place.fired([healthy], 2.0))
        assert sum(path.startswith("/hang/") for path in place.endpoints.peaks) == 35


def test_backlogs_of_paced_webhooks_hide_nobody(place: Place) -> None:
    """Each of them is longer than what is looked at, and more of them are free again than there are looks."""
    for number in range(16):
        place.declare(f"backlog{number}")
        place.webhook(f"/paced/{number}", model=f"backlog{number}", rateLimitPerSecond=4)
        place.publish(f"backlog{number}", 500)
        place.publish(f"backlog{number}", 500)
    healthy = place.webhook("/beside-backlogs")
    _check_lateness(place, "/beside-backlogs", place.fired([healthy], 2.0))
    assert all(place.endpoints.arrivals[f"/paced/{number}"] for number in range(16))


def _check_lateness(place: Place, path: str, fired: dict[str, float]) -> None:
    """Check that events which have nothing to wait for come about as soon as those of the control."""
    late = place.lateness(path, fired)
    assert statistics.median(late) < 0.5 + 3 * statistics.median(place.undisturbed)
    assert late[-1] < 1.7 + 3 * place.undisturbed[-1]
