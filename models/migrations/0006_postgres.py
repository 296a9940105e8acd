"""What Postgres needs beside the tables: the log in commit order, JSON as it was written, and smaller indexes.

JSON columns become `json`: unlike `jsonb` it keeps the order of an object's members, and every text that JSON can hold.
An event waits only for a while, so what finds the waiting ones need not hold all others too; that goes for leases on
SQLite as well.
"""

from typing import Any

from tortoise import fields, migrations
from tortoise.migrations import operations as ops

_JSON = {
    "ringback_attempt": ("request", "response"),
    "ringback_change": ("item", "changed_fields"),
    "ringback_event": ("test_item",),
    "ringback_inbox": ("responses",),
    "ringback_inbox_request": ("headers",),
    "ringback_webhook": ("actions", "headers", "retry_delays"),
    "ringback_declared_model": ("sample",),
    "ringback_idempotency_key": ("event_ids",),
}
_STATEMENTS = """
ALTER TABLE ringback_log ALTER COLUMN transaction SET DEFAULT pg_current_xact_id()::text::bigint;
CREATE INDEX ringback_log_in_order ON ringback_log (transaction, id);
CREATE INDEX ringback_log_of_webhook ON ringback_log (webhook_id, transaction, id);
DROP INDEX "idx_ringback_ev_due_at_14766e";
CREATE INDEX "idx_ringback_ev_due_at_14766e" ON ringback_event (due_at) WHERE due_at IS NOT NULL;
"""
_LEASES = "CREATE INDEX ringback_event_of_lease ON ringback_event (lease) WHERE lease IS NOT NULL"


async def prepare(apps: Any, schema_editor: Any) -> None:
    """All but the last of it on Postgres only."""
    db = schema_editor.client
    await db.execute_script(_LEASES)
    if db.capabilities.dialect != "postgres":
        return
    for table, columns in _JSON.items():
        changes = ", ".join(f"ALTER COLUMN {column} TYPE json USING {column}::json" for column in columns)
        await db.execute_script(f"ALTER TABLE {table} {changes}")
    await db.execute_script(_STATEMENTS)


async def undo(apps: Any, schema_editor: Any) -> None:
    """The columns go with their indexes."""
    await schema_editor.client.execute_script("DROP INDEX ringback_event_of_lease")


class Migration(migrations.Migration):
    dependencies = [("ringback", "0005_declared_models")]

    initial = False

    operations = [
        ops.AddField(
            model_name="LogEntry",
            name="transaction",
            field=fields.BigIntField(
                db_default=0, description="Postgres's number of the transaction that wrote it, 0 on SQLite."
            ),
        ),
        ops.AddField(
            model_name="Installation",
            name="server",
            field=fields.CharField(
                null=True,
                max_length=64,
                description="The Postgres server and database that it was last seen in, null on SQLite.",
            ),
        ),
        ops.RunPython(prepare, undo),
    ]
