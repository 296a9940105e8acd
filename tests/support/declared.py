"""A declared model, and changes of its objects that other programs publish."""

from typing import Any

from ringback.models.declared_model import IdempotencyKey
from ringback.models.delivery_log import LogEntry
from ringback.models.event import Change, Event
from tests.support.api import Api

SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "required": ["id", "price"],
    "properties": {
        "id": {"type": "string"},
        "price": {"type": "number", "minimum": 0, "description": "What it costs."},
        "unit_price": {"anyOf": [{"type": "number"}, {"type": "null"}]},
        "added_at": {"type": "string", "format": "date-time"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "lines": {"type": "array", "items": {"$ref": "#/$defs/line"}},
    },
    "$defs": {
        "line": {
            "type": "object",
            "properties": {"sku": {"type": "string"}, "quantity": {"type": "integer"}},
            "additionalProperties": False,
        }
    },
}
SAMPLE: dict[str, Any] = {"id": "1", "price": 350.5, "lines": [{"sku": "a", "quantity": 2}]}
PART: dict[str, Any] = {"name": "part", "label": "Part", "jsonSchema": SCHEMA, "sample": SAMPLE}
HOOK: dict[str, Any] = {"model": "part", "actions": ["CREATED", "UPDATED", "DELETED"], "url": "https://hooks.example/"}


def change(number: int = 1, **given: Any) -> dict[str, Any]:
    """Return a change of the part of this number; `given` replaces what it says."""
    item = {"id": str(number), "price": number}
    return {"model": "part", "action": "CREATED", "objectId": str(number), "item": item, **given}


async def publish(api: Api, *changes: dict[str, Any]) -> list[dict[str, Any]]:
    """Publish changes that must be accepted; return the result of each."""
    found: list[dict[str, Any]] = (await api.do("PublishChanges", input={"changes": list(changes)}))["changes"]
    return found


async def refused(api: Api, *changes: dict[str, Any]) -> list[tuple[str, str | None, str]]:
    """Publish changes that must be refused; return code, field and message of each mistake."""
    return await api.refusals("PublishChanges", input={"changes": list(changes)})


def asked_for(statements: list[str]) -> list[str]:
    """Return statements without those of the tailer, which looks at the log when it likes."""
    return [s for s in statements if not (s.startswith("SELECT") and 'FROM "ringback_log"' in s)]


async def recorded() -> tuple[int, int, int, int]:
    """Count the changes, events, log entries and keys in the database."""
    return (
        await Change.all().count(),
        await Event.all().count(),
        await LogEntry.all().count(),
        await IdempotencyKey.all().count(),
    )
