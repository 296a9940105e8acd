"""A backlog of due events, created through the public API, and its delivery.

Nothing here depends on how the program stores events, so the same load drives programs of different commits: webhooks
are created and changes published while no worker runs, and only rows are counted in the database.
"""

import asyncio
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager

import asyncpg

from bench.client import Client
from bench.due import CHANGED, Webhooks, item
from bench.installation import Installation
from bench.load import WrongResult
from bench.writes import DECLARE, PUBLISH, SCHEMA

MODEL = "part"
#: Approximate number of events that one call of publishChanges creates.
EVENTS_PER_CALL = 2_000
#: The limit of publishChanges.
MAX_CHANGES = 500
#: How long storing all results may take.
STORE_SECONDS = 60.0
#: Seconds between two counts of unfinished events.
POLL_SECONDS = 0.02
PENDING = "SELECT count(*) FROM (SELECT 1 FROM ringback_event WHERE status = 'PENDING' LIMIT 1) AS first"
SUCCEEDED = "SELECT count(*) FROM ringback_event WHERE status = 'SUCCEEDED' AND attempt_count = 1"
ATTEMPTS = "SELECT count(*) FROM ringback_attempt"
CREATE_WEBHOOK = """
mutation ($input: CreateWebhookInput!) { createWebhook(input: $input) { webhook { id } errors { field message } } }
"""


def publish_backlog(installation: Installation, sink: str, events: int, kind: Webhooks) -> int:
    """Create webhooks and publish changes. Return the number of due events, about `events`."""
    with installation.api() as api, Client(api) as client:
        declared = {"name": MODEL, "label": "Part", "jsonSchema": SCHEMA, "sample": item("part_0000001")}
        client.query(DECLARE, {"input": declared})
        for number in range(kind.count):
            client.query(CREATE_WEBHOOK, {"input": _webhook(f"{sink}{kind.path}{number}", kind)})
        changes = max(1, events // kind.count)
        step = min(MAX_CHANGES, max(1, EVENTS_PER_CALL // kind.count))
        for start in range(0, changes, step):
            numbers = range(start, min(start + step, changes))
            client.query(PUBLISH, {"input": {"changes": [_change(number) for number in numbers]}})
    return changes * kind.count


def deliver_backlog(
    installation: Installation,
    events: int,
    deliver: AbstractContextManager[None],
    wait_for_requests: Callable[[], None],
) -> float:
    """Deliver a backlog. Return the time at which its last result was stored, by the monotonic clock.

    `wait_for_requests` returns once all requests have arrived. Raises WrongResult unless every event succeeded at its
    first attempt.
    """
    with _open_database(installation) as fetch_count:
        with deliver:
            wait_for_requests()
            end = time.monotonic() + STORE_SECONDS
            while fetch_count(PENDING):
                if time.monotonic() > end:
                    raise WrongResult(f"not all results of {events} events are stored after {STORE_SECONDS:g} s")
                time.sleep(POLL_SECONDS)
            done = time.monotonic()
        succeeded, attempts = fetch_count(SUCCEEDED), fetch_count(ATTEMPTS)
    if (succeeded, attempts) != (events, events):
        raise WrongResult(
            f"of {events} events {succeeded} succeeded at the first attempt; there are {attempts} attempts"
        )
    return done


def _webhook(url: str, kind: Webhooks) -> dict[str, object]:
    webhook = {"model": MODEL, "actions": ["UPDATED"], "url": url, "retryDelaysSeconds": [0]}
    body = {"bodyTemplate": kind.template} if kind.template else {"sendJson": True}
    return {**webhook, **body}


def _change(number: int) -> dict[str, object]:
    object_id = f"lead_{number:07}"
    return {
        "model": MODEL,
        "action": "UPDATED",
        "objectId": object_id,
        "item": item(object_id),
        "changedFields": CHANGED,
    }


@contextmanager
def _open_database(installation: Installation) -> Iterator[Callable[[str], int]]:
    """Connect to the database of an installation. Yields a function that runs a query and returns its number."""
    settings = installation.settings
    if settings.is_embedded:
        with closing(sqlite3.connect(f"file:{settings.database_path}?mode=ro", uri=True)) as database:
            yield lambda statement: int(database.execute(statement).fetchone()[0])
        return
    with asyncio.Runner() as runner:
        connection = runner.run(asyncpg.connect(settings.database_url))
        try:
            yield lambda statement: int(runner.run(connection.fetchval(statement)))
        finally:
            runner.run(connection.close())
