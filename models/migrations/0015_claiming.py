"""Claiming on Postgres is one function: its steps must follow each other at once, and wait for no round trips.

Who claims locks the webhooks, which nobody waits for, counts what is leased of them but for what it has seen end, takes
what their limits leave, and leases it. It is `models.claims.claim` on SQLite, and `models.limits.grant`, statement by statement.
"""

from typing import Any

from tortoise import migrations
from tortoise.migrations import operations as ops

_CREATE = """
CREATE FUNCTION ringback_claim(
    webhooks uuid[], bound integer,
    events uuid[], numbers integer[], leases uuid[], moments timestamptz[],
    present timestamptz, slots_until timestamptz, ends timestamptz, ended uuid[], ended_leases uuid[],
    OUT claimed uuid[], OUT claimed_at timestamptz[], OUT rooms integer[], OUT steps interval[], OUT slots timestamptz[]
) LANGUAGE plpgsql AS $claim$
DECLARE
    one record;
    number integer;
    moment timestamptz;
    granted integer := 0;
    granted_events uuid[] := '{}';
    granted_leases uuid[] := '{}';
    granted_moments timestamptz[] := '{}';
    full_until_later boolean[] := array_fill(false, ARRAY[cardinality(webhooks)]);
    moved boolean := false;
BEGIN
    rooms := array_fill(NULL::integer, ARRAY[cardinality(webhooks)]);
    steps := array_fill(NULL::interval, ARRAY[cardinality(webhooks)]);
    slots := array_fill(NULL::timestamptz, ARRAY[cardinality(webhooks)]);

    FOR one IN
        SELECT given.number, webhook.max_concurrency, webhook.rate_limit_per_second, webhook.last_slot_at
        FROM (
            SELECT id, max_concurrency, rate_limit_per_second, last_slot_at FROM ringback_webhook
            WHERE id = ANY(webhooks) FOR NO KEY UPDATE SKIP LOCKED
        ) webhook JOIN unnest(webhooks) WITH ORDINALITY given(id, number) ON given.id = webhook.id
    LOOP
        rooms[one.number] := coalesce(one.max_concurrency, bound);
        steps[one.number] := make_interval(secs => 1 / one.rate_limit_per_second);
        slots[one.number] := one.last_slot_at;
    END LOOP;

    -- A statement of its own: it must see what those have committed who held the locks before.
    FOR one IN
        SELECT given.number, counted.events
        FROM (
            SELECT webhook_id, count(*)::integer AS events FROM ringback_event
            WHERE lease IS NOT NULL AND webhook_id = ANY(webhooks)
            AND (id, lease) NOT IN (SELECT * FROM unnest(ended, ended_leases)) GROUP BY webhook_id
        ) counted JOIN unnest(webhooks) WITH ORDINALITY given(id, number) ON given.id = counted.webhook_id
    LOOP
        rooms[one.number] := rooms[one.number] - one.events;
    END LOOP;

    FOR place IN 1 .. cardinality(events) LOOP
        number := numbers[place];
        CONTINUE WHEN coalesce(rooms[number], 0) <= 0 OR full_until_later[number];
        moment := moments[place];
        IF steps[number] IS NOT NULL THEN
            moment := greatest(moment, present, slots[number] + steps[number]);
            IF moment > slots_until THEN
                full_until_later[number] := true;
                CONTINUE;
            END IF;
            slots[number] := moment;
            moved := true;
        END IF;
        rooms[number] := rooms[number] - 1;
        granted := granted + 1;
        granted_events[granted] := events[place];
        granted_leases[granted] := leases[place];
        granted_moments[granted] := moment;
    END LOOP;

    IF moved THEN
        UPDATE ringback_webhook webhook SET last_slot_at = given.slot
        FROM unnest(webhooks, rooms, slots) given(id, room, slot)
        WHERE webhook.id = given.id AND given.room IS NOT NULL AND webhook.last_slot_at IS DISTINCT FROM given.slot;
    END IF;

    -- LATERAL: each event is looked up by its key, whatever Postgres believes of how many wait; right after a burst it
    -- knows only of few, and would rather read all that wait. For the same reason it is written where it was found, at
    -- its ctid. What was changed at this very moment is there no longer: it can be claimed the next time.
    WITH free AS (
        SELECT found.id, found.ctid, wanted.lease, wanted.moment
        FROM unnest(granted_events, granted_leases, granted_moments) wanted(id, lease, moment), LATERAL (
            SELECT event.id, event.ctid FROM ringback_event event
            WHERE event.id = wanted.id AND event.status IN ('PENDING', 'RETRYING') AND event.lease IS NULL
            FOR UPDATE SKIP LOCKED
        ) found
    ), taken AS (
        UPDATE ringback_event event
        SET lease = free.lease, lease_begun_at = NULL, due_at = ends, next_attempt_at = free.moment
        FROM free WHERE event.ctid = ANY(ARRAY(SELECT ctid FROM free)) AND event.id = free.id
        RETURNING event.id, event.next_attempt_at
    )
    SELECT array_agg(taken.id), array_agg(taken.next_attempt_at) INTO claimed, claimed_at FROM taken;
END
$claim$
"""


async def create(apps: Any, schema_editor: Any) -> None:
    """SQLite has one worker, and no round trips."""
    if schema_editor.client.capabilities.dialect == "postgres":
        await schema_editor.client.execute_script(_CREATE)


async def drop(apps: Any, schema_editor: Any) -> None:
    """Former versions claim by statements of their own."""
    if schema_editor.client.capabilities.dialect == "postgres":
        await schema_editor.client.execute_script("DROP FUNCTION ringback_claim")


class Migration(migrations.Migration):
    dependencies = [("ringback", "0014_one_log_index")]

    initial = False

    operations = [ops.RunPython(create, drop)]
