"""What a statement does to large tables, as the database's own EXPLAIN tells."""

import json
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from tortoise.transactions import in_transaction

from ringback.models.database.sql import is_postgres
from ringback.models.event import Event

#: Rows of large tables that one statement may look at.
BOUND = 1_500
LARGE = ("ringback_event", "ringback_attempt", "ringback_change", "ringback_log")


@contextmanager
def spied(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, list[Any]]]]:
    """The statements that are executed within the block, with their values."""
    seen: list[tuple[str, list[Any]]] = []
    client = type(Event._meta.db)
    with monkeypatch.context() as patch:
        for owner in (client, client.transaction_class):  # type: ignore[attr-defined]
            for name in ("execute_query", "execute_query_dict"):
                original = getattr(owner, name)

                async def spy(self: Any, query: str, values: Any = None, original: Any = original) -> Any:
                    seen.append((query, list(values or [])))
                    return await original(self, query, values)

                patch.setattr(owner, name, spy)
        yield seen


async def plan(query: str, values: list[Any]) -> list[str]:
    """What the statement does to large tables that it should not do."""
    db = Event._meta.db
    if not is_postgres(db):
        found = await db.execute_query_dict(f"EXPLAIN QUERY PLAN {query}", values)
        details = [row["detail"] for row in found]
        ordered = "ORDER BY" in query and "LIMIT" in query
        return [
            d for d in details
            if (d.startswith("SCAN") and any(t in d for t in LARGE) and not ordered) or d == "TEMP B-TREE FOR ORDER BY"
        ]  # fmt: skip
    try:
        async with in_transaction() as tx:
            (row,) = await tx.execute_query_dict(f"EXPLAIN (ANALYZE, FORMAT JSON) {query}", values)
            raise _RolledBack(row["QUERY PLAN"])
    except _RolledBack as rolled_back:
        return list(_faults(json.loads(rolled_back.args[0])[0]["Plan"]))


class _RolledBack(Exception):
    pass


def _faults(node: dict[str, Any]) -> Iterator[str]:
    table = node.get("Relation Name")
    looked_at = (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
    if table in LARGE and node["Node Type"] != "ModifyTable":
        if node["Node Type"] == "Seq Scan":
            yield f"Seq Scan on {table}"
        if looked_at > BOUND:
            yield f"{node['Node Type']} looked at {looked_at} rows of {table}"
    for child in node.get("Plans", ()):
        yield from _faults(child)


async def check(monkeypatch: pytest.MonkeyPatch, what: str, work: Callable[[], Awaitable[Any]]) -> Any:
    with spied(monkeypatch) as statements:
        answer = await work()
    assert statements, what
    for query, values in statements:
        if "ringback_claim(" in query:
            assert await plans_within(query, values) == [], (what, query)
        elif any(table in query for table in LARGE) and query.lstrip().upper().startswith(("SELECT", "UPDATE", "WITH")):
            assert await plan(query, values) == [], (what, query)
    return answer


async def plans_within(query: str, values: list[Any]) -> list[str]:
    """Do the same for the statements of a Postgres function, which reports them as notices."""
    found: list[dict[str, Any]] = []

    def notice(_: object, message: Any) -> None:
        _, explained, text = message.message.partition("plan:")
        if explained:
            found.append(json.loads(text))

    async with Event._meta.db.acquire_connection() as connection:
        connection.add_log_listener(notice)
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute(
            "LOAD 'auto_explain'; SET LOCAL auto_explain.log_min_duration = 0; SET LOCAL auto_explain.log_analyze = on;"
            "SET LOCAL auto_explain.log_nested_statements = on; SET LOCAL auto_explain.log_format = json;"
            "SET LOCAL auto_explain.log_level = notice;"
        )
        await connection.fetch(query, *values)
        await transaction.rollback()
        connection.remove_log_listener(notice)
    texts = " ".join(plan["Query Text"] for plan in found)
    assert all(part in texts for part in ("FOR NO KEY UPDATE", "count(*)", "LATERAL")), "each step was seen"
    return [fault for plan in found for fault in _faults(plan["Plan"])]
