"""The names that every template and condition can use."""

from collections.abc import Mapping
from typing import NamedTuple


class EventFacts(NamedTuple):
    """What a template sees as `event`; `created_at` is ISO 8601 in UTC."""

    id: str
    model: str
    action: str
    changed_fields: tuple[str, ...]
    created_at: str


def scope(item: Mapping[str, object], event: EventFacts) -> dict[str, object]:
    """Return the root names `item` (the snapshot of the object) and `event`."""
    return {
        "item": item if type(item) is dict else dict(item),
        "event": {
            "id": event.id,
            "model": event.model,
            "action": event.action,
            "changed_fields": list(event.changed_fields),
            "created_at": event.created_at,
        },
    }
