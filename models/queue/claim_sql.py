"""The SQL of `models.queue.claims`, with a variant for SQLite of each statement.

Parameters of the statements that find due events:

- `$1`: latest due time
- `$2`: most events
- `$3`: most retries
- `$4`: webhooks on hold, or for `LOCK_DUE_OF_WEBHOOKS` those to search
- `$5`: whether suspects may be claimed
- `$6`, only webhook by webhook: most events of each webhook and kind
- `$7`, only webhook by webhook: the webhook after which the search starts

All return the columns of `claims.DueRow`, which include the columns of the webhook if its row could be locked. On
SQLite a transaction is alone, so nothing is locked.
"""

#: Find the earliest due events of each kind, by the index ringback_event_waiting, and lock their webhooks. LATERAL
#: looks webhooks up by their keys.
LOCK_DUE = """
WITH due AS MATERIALIZED (
    SELECT * FROM (
        SELECT id, webhook_id, next_attempt_at, abandoned_in_a_row, status FROM ringback_event
        WHERE status = 'PENDING' AND worker_id IS NULL AND next_attempt_at <= $1
        AND NOT webhook_id = ANY($4::uuid[]) AND ($5 OR abandoned_in_a_row < 2) ORDER BY next_attempt_at LIMIT $2
    ) first
    UNION ALL SELECT * FROM (
        SELECT id, webhook_id, next_attempt_at, abandoned_in_a_row, status FROM ringback_event
        WHERE status = 'RETRYING' AND worker_id IS NULL AND next_attempt_at <= $1
        AND NOT webhook_id = ANY($4::uuid[]) AND ($5 OR abandoned_in_a_row < 2) ORDER BY next_attempt_at LIMIT $3
    ) retry
), locked AS (
    SELECT webhook.* FROM (SELECT DISTINCT webhook_id FROM due) due_webhook, LATERAL (
        SELECT id, max_concurrency, rate_limit_per_second, last_slot_at FROM ringback_webhook
        WHERE id = due_webhook.webhook_id FOR NO KEY UPDATE SKIP LOCKED
    ) webhook
)
SELECT due.*, locked.id IS NOT NULL, max_concurrency, rate_limit_per_second, last_slot_at
FROM due LEFT JOIN locked ON locked.id = due.webhook_id
"""
LOCK_DUE_ON_SQLITE = """
WITH due AS MATERIALIZED (
    SELECT * FROM (
        SELECT id, webhook_id, next_attempt_at, abandoned_in_a_row, status FROM ringback_event
        WHERE status = 'PENDING' AND worker_id IS NULL AND next_attempt_at <= $1
        AND NOT webhook_id IN (SELECT value FROM json_each($4)) AND ($5 OR abandoned_in_a_row < 2)
        ORDER BY next_attempt_at LIMIT $2
    ) first
    UNION ALL SELECT * FROM (
        SELECT id, webhook_id, next_attempt_at, abandoned_in_a_row, status FROM ringback_event
        WHERE status = 'RETRYING' AND worker_id IS NULL AND next_attempt_at <= $1
        AND NOT webhook_id IN (SELECT value FROM json_each($4)) AND ($5 OR abandoned_in_a_row < 2)
        ORDER BY next_attempt_at LIMIT $3
    ) retry
)
SELECT due.*, 1, max_concurrency, rate_limit_per_second, last_slot_at
FROM due JOIN ringback_webhook ON ringback_webhook.id = due.webhook_id
"""

#: Find due events webhook by webhook, so that no backlog hides another webhook, and lock the webhooks. `walk` steps
#: from the first event of one webhook to the first of the next, by the index ringback_event_waiting_by_webhook.
#: - `= ANY(ARRAY[…])` with ORDER BY webhook_id can use only that index. Given a choice, Postgres looks for a webhook's
#:   events among all events that are due.
#: - The inner LIMIT is a constant, so that Postgres knows it when it plans.
#: - OFFSET 0, and CROSS JOIN on SQLite, keep the walk in the outer loop: a full page must end with the last webhook
#:   whose events were read.
LOCK_DUE_BY_WEBHOOK = """
WITH due AS MATERIALIZED (
    WITH RECURSIVE walk(webhook_id) AS (
        SELECT (
            SELECT webhook_id FROM ringback_event
            WHERE worker_id IS NULL AND next_attempt_at IS NOT NULL AND webhook_id > $7 ORDER BY webhook_id LIMIT 1
        )
        UNION ALL SELECT (
            SELECT event.webhook_id FROM ringback_event event
            WHERE worker_id IS NULL AND next_attempt_at IS NOT NULL AND event.webhook_id > walk.webhook_id
            ORDER BY event.webhook_id LIMIT 1
        ) FROM walk WHERE walk.webhook_id IS NOT NULL
    )
    SELECT event.* FROM walk, LATERAL (
        SELECT earliest.* FROM unnest(ARRAY['PENDING', 'RETRYING']) kind, LATERAL (
            SELECT * FROM (
                SELECT id, webhook_id, next_attempt_at, abandoned_in_a_row, status FROM ringback_event event
                WHERE event.webhook_id = ANY(ARRAY[walk.webhook_id]) AND status = kind AND worker_id IS NULL
                AND next_attempt_at <= $1 AND ($5 OR abandoned_in_a_row < 2)
                ORDER BY event.webhook_id, next_attempt_at LIMIT 50
            ) fifty LIMIT $6
        ) earliest WHERE $3 > 0 OR kind = 'PENDING' OFFSET 0
    ) event WHERE walk.webhook_id IS NOT NULL AND NOT walk.webhook_id = ANY($4::uuid[]) LIMIT $2
), locked AS (
    SELECT webhook.* FROM (SELECT DISTINCT webhook_id FROM due) due_webhook, LATERAL (
        SELECT id, max_concurrency, rate_limit_per_second, last_slot_at FROM ringback_webhook
        WHERE id = due_webhook.webhook_id FOR NO KEY UPDATE SKIP LOCKED
    ) webhook
)
SELECT due.*, locked.id IS NOT NULL, max_concurrency, rate_limit_per_second, last_slot_at
FROM due LEFT JOIN locked ON locked.id = due.webhook_id
"""
LOCK_DUE_BY_WEBHOOK_ON_SQLITE = """
WITH due AS MATERIALIZED (
    WITH RECURSIVE walk(webhook_id) AS (
        SELECT (
            SELECT webhook_id FROM ringback_event
            WHERE worker_id IS NULL AND next_attempt_at IS NOT NULL AND webhook_id > $7 ORDER BY webhook_id LIMIT 1
        )
        UNION ALL SELECT (
            SELECT event.webhook_id FROM ringback_event event
            WHERE worker_id IS NULL AND next_attempt_at IS NOT NULL AND event.webhook_id > walk.webhook_id
            ORDER BY event.webhook_id LIMIT 1
        ) FROM walk WHERE walk.webhook_id IS NOT NULL
    )
    SELECT event.id, event.webhook_id, event.next_attempt_at, event.abandoned_in_a_row, event.status
    FROM walk CROSS JOIN json_each('["PENDING", "RETRYING"]') kind CROSS JOIN ringback_event event ON event.id IN (
        SELECT earliest.id FROM ringback_event earliest
        WHERE earliest.webhook_id = walk.webhook_id AND status = kind.value AND worker_id IS NULL
        AND next_attempt_at <= $1 AND ($5 OR abandoned_in_a_row < 2) ORDER BY next_attempt_at LIMIT $6
    )
    WHERE walk.webhook_id IS NOT NULL AND NOT walk.webhook_id IN (SELECT value FROM json_each($4))
    AND ($3 > 0 OR kind.value = 'PENDING') LIMIT $2
)
SELECT due.*, 1, max_concurrency, rate_limit_per_second, last_slot_at
FROM due JOIN ringback_webhook ON ringback_webhook.id = due.webhook_id
"""

#: Find the earliest due events of some webhooks, by the index ringback_event_waiting_by_webhook, and lock the webhooks.
#: As above, `= ANY(ARRAY[…])` and OFFSET 0 keep Postgres from reading all events that are due.
LOCK_DUE_OF_WEBHOOKS = """
WITH due AS MATERIALIZED (
    SELECT event.* FROM unnest($4::uuid[]) searched(webhook_id), LATERAL (
        SELECT earliest.* FROM unnest(ARRAY['PENDING', 'RETRYING']) kind, LATERAL (
            SELECT id, webhook_id, next_attempt_at, abandoned_in_a_row, status FROM ringback_event event
            WHERE event.webhook_id = ANY(ARRAY[searched.webhook_id]) AND status = kind AND worker_id IS NULL
            AND next_attempt_at <= $1 AND ($5 OR abandoned_in_a_row < 2)
            ORDER BY event.webhook_id, next_attempt_at LIMIT 50
        ) earliest WHERE $3 > 0 OR kind = 'PENDING' OFFSET 0
    ) event LIMIT $2
), locked AS (
    SELECT webhook.* FROM (SELECT DISTINCT webhook_id FROM due) due_webhook, LATERAL (
        SELECT id, max_concurrency, rate_limit_per_second, last_slot_at FROM ringback_webhook
        WHERE id = due_webhook.webhook_id FOR NO KEY UPDATE SKIP LOCKED
    ) webhook
)
SELECT due.*, locked.id IS NOT NULL, max_concurrency, rate_limit_per_second, last_slot_at
FROM due LEFT JOIN locked ON locked.id = due.webhook_id
"""
LOCK_DUE_OF_WEBHOOKS_ON_SQLITE = """
WITH due AS MATERIALIZED (
    SELECT event.id, event.webhook_id, event.next_attempt_at, event.abandoned_in_a_row, event.status
    FROM json_each($4) searched CROSS JOIN json_each('["PENDING", "RETRYING"]') kind
    CROSS JOIN ringback_event event ON event.id IN (
        SELECT earliest.id FROM ringback_event earliest
        WHERE earliest.webhook_id = searched.value AND status = kind.value AND worker_id IS NULL
        AND next_attempt_at <= $1 AND ($5 OR abandoned_in_a_row < 2) ORDER BY next_attempt_at LIMIT 50
    )
    WHERE $3 > 0 OR kind.value = 'PENDING' LIMIT $2
)
SELECT due.*, 1, max_concurrency, rate_limit_per_second, last_slot_at
FROM due JOIN ringback_webhook ON ringback_webhook.id = due.webhook_id
"""

#: Find the time of the next event of each kind after `$1`, without webhooks on hold (`$2`). By the index
#: ringback_event_waiting.
NEXT_DUE = """
SELECT * FROM (
    SELECT next_attempt_at FROM ringback_event
    WHERE status = 'PENDING' AND worker_id IS NULL AND next_attempt_at > $1
    AND NOT webhook_id = ANY($2::uuid[]) ORDER BY next_attempt_at LIMIT 1
) first
UNION ALL SELECT * FROM (
    SELECT next_attempt_at FROM ringback_event
    WHERE status = 'RETRYING' AND worker_id IS NULL AND next_attempt_at > $1
    AND NOT webhook_id = ANY($2::uuid[]) ORDER BY next_attempt_at LIMIT 1
) retry
"""
NEXT_DUE_ON_SQLITE = """
SELECT * FROM (
    SELECT next_attempt_at FROM ringback_event
    WHERE status = 'PENDING' AND worker_id IS NULL AND next_attempt_at > $1
    AND NOT webhook_id IN (SELECT value FROM json_each($2)) ORDER BY next_attempt_at LIMIT 1
) first
UNION ALL SELECT * FROM (
    SELECT next_attempt_at FROM ringback_event
    WHERE status = 'RETRYING' AND worker_id IS NULL AND next_attempt_at > $1
    AND NOT webhook_id IN (SELECT value FROM json_each($2)) ORDER BY next_attempt_at LIMIT 1
) retry
"""

#: Write the worker into events that still wait, and return the columns of `claims.ClaimedEvent` and those that the
#: delivery needs from the change and the webhook. `$1` ids, `$2` start times, `$3` worker, `$4` now. Items of at least
#: `$6` bytes are large. Events with large items start, in their order, until these have as many bytes as the event's
#: room in `$5`. Events with different rooms do not count together.
#: - LATERAL looks events up by their keys, and the UPDATE finds their rows by ctid: right after a burst Postgres
#:   estimates that few events wait, and would read all of them.
#: - Events that another transaction is changing are skipped; a later claim can take them.
#: - The arrays are subselects, so that Postgres does not see how long they are. Otherwise it plans the statement anew
#:   for each claim, which takes longer than running it.
START_ATTEMPTS = """
WITH free AS (
    SELECT waiting.id, waiting.ctid, starts_at, room, number, change.item, change.changed_fields, webhook.updated_at,
    octet_length(COALESCE(change.item, waiting.test_item, '')) bytes
    FROM unnest((SELECT $1::uuid[]), (SELECT $2::timestamptz[]), (SELECT $5::bigint[]))
    WITH ORDINALITY granted(id, starts_at, room, number), LATERAL (
        SELECT event.id, event.ctid, webhook_id, change_id, test_item::text FROM ringback_event event
        WHERE event.id = granted.id AND status IN ('PENDING', 'RETRYING') AND worker_id IS NULL
        FOR UPDATE SKIP LOCKED
    ) waiting
    LEFT JOIN LATERAL (
        SELECT item::text, changed_fields FROM ringback_change WHERE id = change_id OFFSET 0
    ) change ON true
    LEFT JOIN LATERAL (SELECT updated_at FROM ringback_webhook WHERE id = webhook_id OFFSET 0) webhook ON true
), fitting AS MATERIALIZED (
    SELECT * FROM (
        SELECT *, sum(bytes) FILTER (WHERE bytes >= $6) OVER (PARTITION BY room ORDER BY number) - bytes AS bytes_before
        FROM free
    ) counted WHERE bytes < $6 OR bytes_before < room
)
UPDATE ringback_event event SET worker_id = $3, claimed_at = $4, next_attempt_at = fitting.starts_at FROM fitting
WHERE event.ctid = ANY(ARRAY(SELECT ctid FROM fitting)) AND event.id = fitting.id
RETURNING event.id, event.webhook_id, event.model, event.action, event.is_test, event.test_item, event.status,
event.attempt_count, event.attempts_before_round, event.abandoned_in_a_row, event.max_attempts, event.next_attempt_at,
event.created_at, event.finished_at, event.condition_pending, fitting.item, fitting.changed_fields, fitting.updated_at
"""
#: The same on SQLite: `$1` start time and room by id as a JSON object, `$2` worker, `$3` now, `$4` as `$6` above.
#: - The plus keeps SQLite from using an index on the status, by which it would read all events of that status.
#: - The rooms are compared only if one of the items is large, since SQLite runs the last subselect when it needs it.
START_ATTEMPTS_ON_SQLITE = """
UPDATE ringback_event SET worker_id = $2, claimed_at = $3, next_attempt_at = value ->> 0
FROM json_each($1) granted
WHERE ringback_event.id = granted.key AND +status IN ('PENDING', 'RETRYING') AND worker_id IS NULL AND (
    COALESCE(
        (SELECT length(CAST(item AS BLOB)) FROM ringback_change WHERE id = change_id),
        length(CAST(test_item AS BLOB)), 0
    ) < $4
    OR ringback_event.id IN (
        SELECT key FROM (
            SELECT key, room, sum(bytes) OVER (PARTITION BY room ORDER BY number) - bytes AS bytes_before FROM (
                SELECT key, value ->> 1 AS room, large.id AS number,
                length(CAST(COALESCE(item, event.test_item) AS BLOB)) AS bytes
                FROM json_each($1) large CROSS JOIN ringback_event event ON event.id = large.key
                LEFT JOIN ringback_change change ON change.id = event.change_id
            ) WHERE bytes >= $4
        ) WHERE bytes_before < room
    )
)
RETURNING ringback_event.id, webhook_id, model, action, is_test, test_item, status, attempt_count,
attempts_before_round, abandoned_in_a_row, max_attempts, next_attempt_at, created_at, finished_at, condition_pending,
(SELECT item FROM ringback_change WHERE id = change_id),
(SELECT changed_fields FROM ringback_change WHERE id = change_id),
(SELECT updated_at FROM ringback_webhook WHERE id = webhook_id)
"""
