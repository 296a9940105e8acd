"""The schema before 0016. It replaces the migrations 0001 to 0015 of earlier commits.

It does not create what 0016 drops: the indexes for claiming events, and the function `ringback_claim` on Postgres.
"""

import datetime as dt
from collections.abc import Sequence
from enum import StrEnum
from typing import Any

import uuid_utils
from tortoise import fields, migrations
from tortoise.migrations import operations as ops

Columns = Sequence[tuple[str, ...]]


def table(
    model: str,
    name: str,
    description: str,
    /,
    indexes: Columns = (),
    unique_together: Columns = (),
    **columns: fields.Field[Any],
) -> ops.CreateModel:
    """Return the operation that creates a model's table."""
    options = {
        "table": name,
        "app": "ringback",
        "table_description": description,
        "indexes": indexes,
        "unique_together": unique_together,
    }
    return ops.CreateModel(name=model, fields=list(columns.items()), options=options)


def choice(max_length: int, *names: str, description: str | None = None) -> fields.CharField:
    """Return a field for an enum whose values are these names."""
    values = StrEnum("Choice", [(name, name) for name in names])
    return fields.CharEnumField(values, max_length=max_length, description=description)


_TABLES = [
    table(
        "ApiToken",
        "ringback_api_token",
        "A bearer token, stored as the SHA-256 hash of its secret.",
        id=fields.UUIDField(primary_key=True),
        name=fields.CharField(max_length=200),
        role=choice(16, "ADMIN"),
        token_hash=fields.CharField(max_length=64, unique=True),
        created_at=fields.DatetimeField(),
        expires_at=fields.DatetimeField(null=True),
        last_used_at=fields.DatetimeField(null=True),
        revoked_at=fields.DatetimeField(null=True),
    ),
    table(
        "Change",
        "ringback_change",
        "One committed create, update or delete of one object, with its snapshot.",
        id=fields.UUIDField(primary_key=True),
        model=fields.CharField(max_length=100),
        action=choice(8, "CREATED", "UPDATED", "DELETED"),
        object_id=fields.CharField(max_length=255),
        item=fields.JSONField(),
        changed_fields=fields.JSONField(),
        created_at=fields.DatetimeField(),
    ),
    table(
        "CustomerOrder",
        "customer_order",
        "A customer's order.",
        id=fields.UUIDField(primary_key=True, description="The order's id, ord_…."),
        number=fields.CharField(max_length=64, description="The order's number in the shop."),
        status=choice(
            16, "NEW", "IN_PROGRESS", "DONE", "CANCELLED", description="NEW, IN_PROGRESS, DONE or CANCELLED."
        ),
        comment=fields.TextField(null=True, description="Comment on the order, null if there is none."),
        created_at=fields.DatetimeField(auto_now_add=True, description="When the order was created."),
        updated_at=fields.DatetimeField(auto_now=True, description="When the order itself was last saved."),
    ),
    table(
        "DeclaredModel",
        "ringback_declared_model",
        "The current declaration of a model.",
        name=fields.CharField(primary_key=True, max_length=100),
        label=fields.CharField(max_length=200, description="Name for people."),
        description=fields.TextField(),
        json_schema=fields.TextField(description="JSON text, which is the key of the cache of compiled schemas."),
        sample=fields.JSONField(),
        created_at=fields.DatetimeField(),
        updated_at=fields.DatetimeField(),
    ),
    table(
        "IdempotencyKey",
        "ringback_idempotency_key",
        "An idempotency key, with the events of the change that was published under it.",
        id=fields.UUIDField(primary_key=True),
        model=fields.CharField(max_length=100),
        key=fields.CharField(max_length=255),
        digest=fields.CharField(max_length=64, description="SHA-256 of the change, in hexadecimal."),
        event_ids=fields.JSONField(description="Keys of the change's events, in order."),
        created_at=fields.DatetimeField(),
        indexes=[("created_at",)],
        unique_together=[("model", "key")],
    ),
    table(
        "Inbox",
        "ringback_inbox",
        "A test address that stores requests and answers with prepared responses.",
        id=fields.UUIDField(primary_key=True),
        token=fields.CharField(max_length=64, unique=True),
        name=fields.CharField(max_length=200, null=True),
        responses=fields.JSONField(
            description="{status_code, body, content_type, delay_ms}, one for each request, the last one repeats."
        ),
        signing_secret=fields.TextField(
            null=True, description="Encrypted (models.security.secret_box), null if the inbox has no secret of its own."
        ),
        request_count=fields.IntField(description="Requests received since the inbox was created or cleared."),
        received=fields.BigIntField(
            db_default=0,
            description="Requests received since the inbox was created, the number of the latest request.",
        ),
        created_at=fields.DatetimeField(),
    ),
    table(
        "InboxRequest",
        "ringback_inbox_request",
        "One request as an inbox received it.",
        id=fields.UUIDField(primary_key=True),
        inbox=fields.ForeignKeyField(
            "ringback.Inbox", source_field="inbox_id", related_name="requests", on_delete=fields.CASCADE
        ),
        number=fields.BigIntField(
            db_default=0,
            description="Number of the request in its inbox, in commit order, 0 for requests older than this column.",
        ),
        received_at=fields.DatetimeField(),
        method=fields.CharField(max_length=32),
        url=fields.TextField(description="Path and query as received."),
        headers=fields.JSONField(),
        body=fields.BinaryField(),
        remote_address=fields.CharField(max_length=64, null=True),
        response_status_code=fields.IntField(),
        signature=choice(16, "VALID", "INVALID", "ABSENT", "NOT_CHECKED"),
        event_id=fields.UUIDField(
            null=True, description="Event of this database that PS-WEBHOOK_EVENT-ID names, else null."
        ),
        attempt_number=fields.IntField(null=True, description="Number of that event's attempt, from Ringback-Attempt."),
        indexes=[("event_id",), ("inbox_id", "id"), ("inbox_id", "number")],
    ),
    table(
        "Installation",
        "ringback_installation",
        "The one row that tells this database from every other.",
        id=fields.IntField(primary_key=True, generated=False),
        epoch=fields.UUIDField(),
        created_at=fields.DatetimeField(),
        server=fields.CharField(
            max_length=64,
            null=True,
            description="The Postgres server and database that it was last seen in, null on SQLite.",
        ),
    ),
    table(
        "Lead",
        "lead",
        "A callback request that became a lead.",
        id=fields.UUIDField(primary_key=True, description="The lead's id, lead_…."),
        name=fields.CharField(max_length=200, description="Name as entered in the form."),
        phone=fields.CharField(max_length=64, description="Phone number as entered in the form."),
        status=choice(16, "NEW", "IN_PROGRESS", "DONE", description="NEW, IN_PROGRESS or DONE."),
        comment=fields.TextField(null=True, description="Note of the manager, null if there is none."),
        created_at=fields.DatetimeField(auto_now_add=True, description="When the callback was requested."),
        updated_at=fields.DatetimeField(auto_now=True, description="When the lead was last saved."),
    ),
    table(
        "LogEntry",
        "ringback_log",
        "One transition of one event.",
        id=fields.BigIntField(primary_key=True, generated=True),
        at=fields.DatetimeField(),
        kind=choice(
            24,
            "EVENT_RECORDED",
            "ATTEMPT_FINISHED",
            "RETRY_SCHEDULED",
            "EVENT_SUCCEEDED",
            "EVENT_FAILED",
            "EVENT_CANCELLED",
        ),
        message=fields.TextField(),
        webhook_id=fields.UUIDField(),
        event_id=fields.UUIDField(),
        attempt_id=fields.UUIDField(null=True),
        model=fields.CharField(
            max_length=100, description="The tracked model's name, so that the log can be followed by model."
        ),
        transaction=fields.BigIntField(
            db_default=0, description="Postgres's number of the transaction that wrote it, 0 on SQLite."
        ),
        indexes=[("webhook_id", "id")],
    ),
    table(
        "OrderCustomer",
        "customer_order_customer",
        "The customer of an order.",
        id=fields.UUIDField(primary_key=True),
        order=fields.OneToOneField(
            "ringback.CustomerOrder", source_field="order_id", related_name="customer", on_delete=fields.CASCADE
        ),
        name=fields.CharField(max_length=200, description="The customer's name."),
        phone=fields.CharField(max_length=64, null=True, description="The customer's phone number, if known."),
        email=fields.CharField(max_length=254, null=True, description="The customer's e-mail address, if known."),
    ),
    table(
        "OrderItem",
        "customer_order_item",
        "One line of an order.",
        id=fields.UUIDField(primary_key=True),
        order=fields.ForeignKeyField(
            "ringback.CustomerOrder", source_field="order_id", related_name="items", on_delete=fields.CASCADE
        ),
        position=fields.IntField(description="Position of the line in the order, starting at 0."),
        brand=fields.CharField(max_length=200, description="The part's brand."),
        article=fields.CharField(max_length=200, description="The part's article number."),
        name=fields.CharField(max_length=500, description="The part's name."),
        quantity=fields.IntField(description="Number of pieces."),
        price=fields.DecimalField(max_digits=12, decimal_places=2, description="Price of one piece."),
    ),
    table(
        "SiteSettings",
        "site_settings",
        "Settings for the whole site.",
        id=fields.IntField(primary_key=True, generated=False),
        track_leads=fields.BooleanField(description="Whether callback requests are stored as leads."),
        updated_at=fields.DatetimeField(),
    ),
    table(
        "Webhook",
        "ringback_webhook",
        "The configuration of a webhook.",
        id=fields.UUIDField(primary_key=True),
        name=fields.CharField(max_length=200, null=True),
        model=fields.CharField(max_length=100),
        actions=fields.JSONField(),
        is_active=fields.BooleanField(),
        method=choice(8, "GET", "POST", "PUT", "PATCH", "DELETE"),
        url=fields.TextField(),
        send_json=fields.BooleanField(),
        body_template=fields.TextField(),
        content_type=fields.CharField(max_length=200, null=True),
        headers=fields.JSONField(description="Pairs of name and value, in the order in which they are sent."),
        condition=fields.TextField(null=True),
        retry_delays=fields.JSONField(description="Seconds before each attempt, one entry per attempt."),
        timeout_seconds=fields.FloatField(),
        success_policy=choice(16, "STATUS_200", "ANY_2XX"),
        max_concurrency=fields.IntField(
            null=True,
            description="Attempts in flight at the same time in all workers, null for the default of the settings.",
        ),
        rate_limit_per_second=fields.FloatField(
            null=True, description="Attempts per second in all workers, null for no limit."
        ),
        last_slot_at=fields.DatetimeField(
            null=True, description="Time of the last rate slot that was granted to an attempt."
        ),
        signing_secret=fields.TextField(description="Encrypted (models.security.secret_box)."),
        created_at=fields.DatetimeField(),
        updated_at=fields.DatetimeField(),
        deleted_at=fields.DatetimeField(null=True),
        indexes=[("model", "is_active")],
    ),
    # Columns that 0016 renames have the descriptions of the new names.
    table(
        "Event",
        "ringback_event",
        "One delivery of one change to one webhook, its id is sent as PS-WEBHOOK_EVENT-ID.",
        id=fields.UUIDField(primary_key=True),
        webhook=fields.ForeignKeyField(
            "ringback.Webhook", source_field="webhook_id", related_name="events", on_delete=fields.RESTRICT
        ),
        change=fields.ForeignKeyField(
            "ringback.Change", source_field="change_id", related_name="events", on_delete=fields.RESTRICT, null=True
        ),
        model=fields.CharField(max_length=100),
        action=choice(8, "CREATED", "UPDATED", "DELETED"),
        object_id=fields.CharField(max_length=255, null=True),
        is_test=fields.BooleanField(),
        test_item=fields.JSONField(
            null=True, description="Item of a test event, other events send the item of their change."
        ),
        status=choice(12, "PENDING", "RETRYING", "SUCCEEDED", "FAILED", "CANCELLED"),
        attempt_count=fields.IntField(description="Number of the last recorded attempt."),
        attempts_before_round=fields.IntField(
            description="Attempts that the current round does not count: earlier rounds and abandoned attempts."
        ),
        abandoned_in_a_row=fields.IntField(description="Attempts in a row that were abandoned, five end the event."),
        max_attempts=fields.IntField(),
        next_attempt_at=fields.DatetimeField(
            null=True,
            description="Due time of the next attempt, or of the attempt in flight, null if the event has ended.",
        ),
        due_at=fields.DatetimeField(null=True),
        lease=fields.UUIDField(
            null=True,
            description="Worker that has claimed the event, else null. No foreign key: dead workers' rows are deleted.",
        ),
        lease_begun_at=fields.DatetimeField(null=True, description="Time of the claim."),
        created_at=fields.DatetimeField(),
        finished_at=fields.DatetimeField(null=True),
        indexes=[
            ("change_id",),
            ("model", "id"),
            ("object_id", "id"),
            ("status", "id"),
            ("webhook_id", "status", "id"),
        ],
    ),
    table(
        "Attempt",
        "ringback_attempt",
        "One attempt to deliver an event: request, response, outcome and duration.",
        id=fields.UUIDField(primary_key=True),
        event=fields.ForeignKeyField(
            "ringback.Event", source_field="event_id", related_name="attempts", on_delete=fields.RESTRICT
        ),
        webhook_id=fields.UUIDField(
            description="Webhook of the event, so that a webhook's attempts are listed without a join."
        ),
        number=fields.IntField(),
        started_at=fields.DatetimeField(),
        duration_ms=fields.IntField(null=True),
        outcome=choice(
            16,
            "DELIVERED",
            "REJECTED",
            "TIMED_OUT",
            "UNREACHABLE",
            "TLS_FAILED",
            "BLOCKED",
            "BAD_RESPONSE",
            "RENDER_FAILED",
            "ABANDONED",
        ),
        error=fields.TextField(null=True),
        status_code=fields.IntField(null=True),
        request=fields.JSONField(
            null=True,
            description="{method, url, headers: [[name, value]], body}, secrets redacted, null if nothing was sent.",
        ),
        response=fields.JSONField(
            null=True,
            description="{headers: [[name, value]], body, body_truncated}, null if there was no response.",
        ),
        indexes=[("outcome", "id"), ("webhook_id", "outcome", "id")],
        unique_together=[("event_id", "number")],
    ),
]
#: Indexes that a model cannot declare.
_PARTIAL_INDEXES = """
CREATE INDEX ringback_event_tests ON ringback_event (id) WHERE is_test;
CREATE INDEX ringback_attempt_codes ON ringback_attempt (webhook_id, status_code, id) WHERE status_code <> 200;
CREATE INDEX ringback_attempt_odd ON ringback_attempt (status_code, id)
    WHERE status_code = 200 AND outcome <> 'DELIVERED';
CREATE INDEX ringback_attempt_status ON ringback_attempt (status_code, id) WHERE status_code <> 200;
"""
#: Indexes for reading the log in commit order, and free space for updated rows in each page of events.
_POSTGRES_ONLY = """
ALTER TABLE ringback_log ALTER COLUMN transaction SET DEFAULT pg_current_xact_id()::text::bigint;
DROP INDEX idx_ringback_lo_webhook_d10e71;
CREATE INDEX ringback_log_in_order ON ringback_log (transaction, id);
CREATE INDEX ringback_log_of_webhook ON ringback_log (webhook_id, transaction, id);
ALTER TABLE ringback_event SET (fillfactor = 70);
"""


async def adapt_to_postgres(apps: Any, schema_editor: Any) -> None:
    """Change JSON columns to the type `json`, and create what only Postgres has.

    Unlike `jsonb`, `json` keeps the order of an object's members, and can store every string of JSON.
    """
    db = schema_editor.client
    if db.capabilities.dialect != "postgres":
        return
    for created in _TABLES:
        for column, field in created.fields:
            if isinstance(field, fields.JSONField):
                name = created.options["table"]
                await db.execute_script(f"ALTER TABLE {name} ALTER COLUMN {column} TYPE json USING {column}::json")
    await db.execute_script(_POSTGRES_ONLY)


async def insert_first_rows(apps: Any, schema_editor: Any) -> None:
    """Insert the row that identifies this database, and the settings of the site.

    This is SQL because Tortoise caches the columns of a table per process: if another database was open before, it
    would insert columns that later migrations add.
    """
    now = dt.datetime.now(dt.UTC).isoformat(sep=" ", timespec="microseconds")
    await schema_editor.client.execute_script(f"""
        INSERT INTO ringback_installation (id, epoch, created_at) VALUES (1, '{uuid_utils.uuid7()}', '{now}');
        INSERT INTO site_settings (id, track_leads, updated_at) VALUES (1, FALSE, '{now}');
    """)


class Migration(migrations.Migration):
    initial = True
    #: Databases of earlier commits have all of these. `models/bootstrap.py` refuses a database with only some.
    replaces = [
        ("ringback", "0002_first_rows"),
        ("ringback", "0003_inbox_attempts"),
        ("ringback", "0004_following"),
        ("ringback", "0005_declared_models"),
        ("ringback", "0006_postgres"),
        ("ringback", "0007_of_a_webhook"),
        ("ringback", "0008_limits"),
        ("ringback", "0009_leases"),
        ("ringback", "0010_rare"),
        ("ringback", "0011_waiting_of_a_webhook"),
        ("ringback", "0012_codes"),
        ("ringback", "0013_by_webhook"),
        ("ringback", "0014_one_log_index"),
        ("ringback", "0015_claiming"),
    ]
    operations = [
        *_TABLES,
        ops.RunSQL(_PARTIAL_INDEXES, ops.RunSQL.noop),
        ops.RunPython(adapt_to_postgres, ops.RunPython.noop),
        ops.RunPython(insert_first_rows, ops.RunPython.noop),
    ]
