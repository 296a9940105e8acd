"""A backlog of due events, made through the public API, and what becomes of it.

Nothing here depends on how the program stores events, so the same load drives programs of different commits: webhooks
are created and changes published while no worker runs, and the database is asked only for numbers of rows.
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
from bench.load import Wrong
from bench.writes import DECLARE, PUBLISH, SCHEMA

MODEL = "part"
#: Events that one call of publishChanges makes, about; a call takes at most 500 changes.
EVENTS_PER_CALL, MOST_CHANGES = 2_000, 500
#: How long storing the results may take, and how often it is looked for, in seconds.
STORE_SECONDS, LOOK_SECONDS = 60.0, 0.02
PENDING = "SELECT count(*) FROM (SELECT 1 FROM ringback_event WHERE status = 'PENDING' LIMIT 1) AS first"
SUCCEEDED = "SELECT count(*) FROM ringback_event WHERE status = 'SUCCEEDED' AND attempt_count = 1"
ATTEMPTS = "SELECT count(*) FROM ringback_attempt"
CREATE_WEBHOOK = """
mutation ($input: CreateWebhookInput!) { createWebhook(input: $input) { webhook { id } errors { field message } } }
"""


def publish_backlog(installation: Installation, sink: str, events: int, kind: Webhooks) -> int:
    """Create webhooks and publish changes until about so many events are due; returns how many there are."""
    with installation.api() as api, Client(api) as client:
        declared = {"name": MODEL, "label": "Part", "jsonSchema": SCHEMA, "sample": item("part_0000001")}
        client.query(DECLARE, {"input": declared})
        for number in range(kind.count):
            client.query(CREATE_WEBHOOK, {"input": _webhook(f"{sink}{kind.path}{number}", kind)})
        changes = max(1, events // kind.count)
        step = min(MOST_CHANGES, max(1, EVENTS_PER_CALL // kind.count))
        for start in range(0, changes, step):
            numbers = range(start, min(start + step, changes))
            client.query(PUBLISH, {"input": {"changes": [_change(number) for number in numbers]}})
    return changes * kind.count


def deliver_backlog(
    installation: Installation, events: int, deliver: AbstractContextManager[None], arrived: Callable[[], None]
) -> float:
    """Deliver a backlog; returns when its last result was stored, by the monotonic clock.

    `arrived` waits until all requests have come. Raises Wrong unless each event succeeded at its first attempt.
    """
    with _open_database(installation) as ask:
        with deliver:
            arrived()
            end = time.monotonic() + STORE_SECONDS
            while ask(PENDING):
                if time.monotonic() > end:
                    raise Wrong(f"not all results of {events} events are stored after {STORE_SECONDS:g} s")
                time.sleep(LOOK_SECONDS)
            done = time.monotonic()
        succeeded, attempts = ask(SUCCEEDED), ask(ATTEMPTS)
    if (succeeded, attempts) != (events, events):
        raise Wrong(f"of {events} events {succeeded} succeeded at once; there are {attempts} attempts")
    return done


def _webhook(url: str, kind: Webhooks) -> dict[str, object]:
    given = {"model": MODEL, "actions": ["UPDATED"], "url": url, "retryDelaysSeconds": [0]}
    if kind.template:
        return {**given, "bodyTemplate": kind.template}
    return {**given, "sendJson": True}


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
    """Connect to the database of an installation; gives a function that returns the number a query asks for."""
    settings = installation.settings
    if settings.is_embedded:
        with closing(sqlite3.connect(f"file:{settings.database_path}?mode=ro", uri=True)) as connection:
            yield lambda statement: int(connection.execute(statement).fetchone()[0])
        return
    with asyncio.Runner() as runner:
        opened = runner.run(asyncpg.connect(settings.database_url))
        try:
            yield lambda statement: int(runner.run(opened.fetchval(statement)))
        finally:
            runner.run(opened.close())
