"""A database with a past: old attempts and waiting retries, made by Postgres itself, with all that they hold in life.

Their webhooks are busy to different degrees, and some never fail; what is drawn by lot comes from a hash of the row's
number, so every run has the same rows.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg
import orjson

from bench.due import item
from bench.figures import Scale
from bench.installation import Bench, Installation
from ringback.models import bootstrap, load_secret_box
from ringback.models.database import clock
from ringback.models.enums import Action
from ringback.models.security.signing import new_signing_secret
from ringback.models.webhook import Webhook
from tests.support import postgres
from tests.support.inserting import insert

WAITING, ATTEMPTS, WEBHOOKS = 1_000_000, 5_000_000, 200
#: Of the webhooks, those up to the first number watch leads, the others orders; those above the second never fail.
LEADS, FAILING = 180, 150
#: One in so many events that have ended took three attempts, all others one.
THREE_ATTEMPTS = 8

_HEADERS = [
    ["User-Agent", "Ringback/0.1.0"], ["Content-Type", "application/json"], ["Ringback-Event", "lead.updated"],
    ["Ringback-Attempt", "1"], ["webhook-timestamp", "1767225600"], ["Accept", "*/*"],
    ["webhook-signature", "v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4="], ["Host", "hooks.example"],
]  # fmt: skip
_ITEM = orjson.dumps(item("lead_0000001")).decode()
_REQUEST = {"method": "POST", "url": "https://hooks.example/", "headers": _HEADERS, "body": _ITEM}
_ANSWERED = [["Content-Type", "text/plain"], ["Content-Length", "2"], ["Server", "nginx"], ["Connection", "keep-alive"]]
_RESPONSE = {"headers": _ANSWERED, "body": "ok", "body_truncated": False}

#: By lot, from 0 to 1: always the same for a number and what it is drawn for. Keys are UUIDv7, as all of Ringback's.
_LOT = """
CREATE FUNCTION pg_temp.lot(n bigint, drawn_for bigint) RETURNS float8 IMMUTABLE LANGUAGE sql AS
$$ SELECT (hashint8extended(n, drawn_for) & 1073741823) / 1073741824.0::float8 $$;
CREATE FUNCTION pg_temp.key(at timestamptz, kind text, n bigint) RETURNS uuid IMMUTABLE LANGUAGE sql AS
$$ SELECT (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7000' || kind
           || lpad(to_hex(n), 15, '0'))::uuid $$;
"""
#: Every event, the waiting ones last: ended ones of the last 90 days but one, waiting ones of the last hour.
_DRAWN = """
CREATE TEMP TABLE drawn AS
SELECT n, pg_temp.key(at, '8', n) AS id, pg_temp.key(at, '9', n) AS change_id, at, waits, tries, is_test,
    webhook_ids[webhook] AS webhook_id, CASE WHEN webhook <= {leads} THEN 'lead' ELSE 'customer_order' END AS model,
    CASE WHEN pg_temp.lot(n, 2) < 0.7 THEN 'UPDATED' WHEN pg_temp.lot(n, 2) < 0.99 THEN 'CREATED' ELSE 'DELETED' END
        AS action,
    'lead_' || lpad(floor(pg_temp.lot(n, 3) * {objects})::text, 7, '0') AS object_id,
    CASE WHEN waits THEN 'RETRYING'
         WHEN tries = 3 AND webhook <= {failing} AND pg_temp.lot(n, 4) < 0.4 THEN 'FAILED'
         WHEN tries = 1 AND pg_temp.lot(n, 4) < 0.01 THEN 'CANCELLED' ELSE 'SUCCEEDED' END AS status
FROM (
    SELECT n, n > {ended} AS waits, CASE WHEN n <= {ended} AND n % {three_attempts} = 0 THEN 3 ELSE 1 END AS tries,
        pg_temp.lot(n, 5) < 0.001 AS is_test, 1 + floor({webhooks} * pg_temp.lot(n, 1) ^ 2)::int AS webhook,
        $1::uuid[] AS webhook_ids,
        CASE WHEN n > {ended} THEN $2::timestamptz - interval '1 hour' * ({all} - n + 1) / ({waiting} + 1)
             ELSE $2::timestamptz - interval '90 days' + interval '89 days' * n / {ended} END AS at
    FROM generate_series(1::bigint, {all}) n
) numbers
"""
_CHANGES = """
INSERT INTO ringback_change (id, model, action, object_id, item, changed_fields, created_at)
SELECT change_id, model, action, object_id, $1::json, '["name", "phone"]', at FROM drawn WHERE NOT is_test
"""
_EVENTS = """
INSERT INTO ringback_event (
    id, webhook_id, change_id, model, action, object_id, is_test, test_item, status, attempt_count,
    attempts_before_round, abandoned_in_a_row, max_attempts, next_attempt_at, created_at, finished_at
)
SELECT id, webhook_id, CASE WHEN NOT is_test THEN change_id END, model, action, object_id, is_test,
    CASE WHEN is_test THEN $1::json END, status, tries, 0, 0, 3, due, at,
    CASE WHEN NOT waits THEN at + interval '13 minutes' END
FROM (
    SELECT *, CASE WHEN waits THEN $2::timestamptz + interval '2 hours' + interval '10 hours' * pg_temp.lot(n, 6) END
        AS due
    FROM drawn
) dated
"""
_ATTEMPTS = """
INSERT INTO ringback_attempt (
    id, event_id, webhook_id, number, started_at, duration_ms, outcome, error, status_code, request, response
)
SELECT pg_temp.key(started_at, 'a', lot), id, webhook_id, number, started_at, (pg_temp.lot(lot, 7) * 400)::int, outcome,
    CASE WHEN outcome <> 'DELIVERED' THEN 'The endpoint did not take it.' END,
    CASE WHEN outcome = 'DELIVERED' THEN 200
         WHEN outcome = 'REJECTED' AND pg_temp.lot(lot, 8) < 0.99 THEN 500 WHEN outcome = 'REJECTED' THEN 410 END,
    $1::json, CASE WHEN outcome IN ('DELIVERED', 'REJECTED') THEN $2::json END
FROM (
    SELECT *, CASE WHEN status IN ('SUCCEEDED', 'CANCELLED') AND number = tries THEN 'DELIVERED'
                   WHEN pg_temp.lot(lot, 9) < 0.6 THEN 'REJECTED' WHEN pg_temp.lot(lot, 9) < 0.95 THEN 'TIMED_OUT'
                   ELSE 'UNREACHABLE' END AS outcome
    FROM (
        SELECT *, at + interval '5 seconds' + interval '4 minutes' * (number - 1) AS started_at, n * 4 + number AS lot
        FROM drawn, generate_series(1, tries) number
    ) tried
) attempts
"""
_INDEXES = """
SELECT pg_get_indexdef(indexrelid) AS definition, indexrelid::regclass::text AS name FROM pg_index
WHERE NOT indisunique AND indrelid::regclass::text IN ('ringback_change', 'ringback_event', 'ringback_attempt')
"""


def filled(bench: Bench, scale: Scale) -> Installation:
    """An installation whose database has a past; it is made once in a run, and ends with it."""

    @contextmanager
    def made() -> Iterator[Installation]:
        with bench.on_postgres() as installation:
            with postgres.other_statements():
                asyncio.run(_fill(installation, *sizes(scale)))
            yield installation

    return bench.kept(made)


def sizes(scale: Scale) -> tuple[int, int]:
    """How many retries wait and how many attempts there are."""
    return scale.of(WAITING, 100), scale.of(ATTEMPTS, 1_000)


def size(scale: Scale) -> str:
    """The same for people."""
    waiting, attempts = sizes(scale)
    return f"{waiting:,} waiting, {attempts:,} attempts"


async def _fill(installation: Installation, waiting: int, attempts: int) -> None:
    settings = installation.settings
    await bootstrap.migrate(settings)
    async with bootstrap.open_database(settings):
        now = await clock.now()
        secret = load_secret_box(settings).seal(new_signing_secret())
        webhooks = [
            Webhook(
                name=f"webhook {number}", model="lead" if number <= LEADS else "customer_order",
                actions=[Action.CREATED], url="https://hooks.example/", send_json=True, signing_secret=secret,
                created_at=now, updated_at=now,
            )
            for number in range(1, WEBHOOKS + 1)
        ]  # fmt: skip
        await insert(Webhook._meta.db, webhooks)
    ended = round((attempts - waiting) / (1 + 2 / THREE_ATTEMPTS))
    numbers = {
        "all": ended + waiting, "ended": ended, "waiting": waiting, "objects": ended // 32 + 1, "leads": LEADS,
        "failing": FAILING, "webhooks": WEBHOOKS, "three_attempts": THREE_ATTEMPTS,
    }  # fmt: skip
    lead, request, response = (orjson.dumps(one).decode() for one in (item("lead_0000001"), _REQUEST, _RESPONSE))
    connection = await asyncpg.connect(settings.database_url)
    try:
        await connection.execute("SET session_replication_role = replica")  # the rows refer to each other rightly
        await connection.execute("SET maintenance_work_mem = '512MB'; SET work_mem = '256MB'")
        await connection.execute(_LOT)
        await connection.execute(_DRAWN.format(**numbers), [webhook.id for webhook in webhooks], now)
        indexes = await connection.fetch(_INDEXES)
        for index in indexes:
            await connection.execute(f"DROP INDEX {index['name']}")
        await connection.execute(_CHANGES, lead)
        await connection.execute(_EVENTS, lead, now)
        await connection.execute(_ATTEMPTS, request, response)
        for index in indexes:
            await connection.execute(index["definition"])
        await connection.execute("VACUUM ANALYZE")
        await connection.execute("CHECKPOINT")
    finally:
        await connection.close()
