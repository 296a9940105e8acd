"""The names that every template and condition can use."""

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol
from uuid import UUID

from ringback.models.ids import Prefix, encode
from ringback.models.timestamps import format_timestamp


class EventLike(Protocol):
    """What `event_facts` reads of an event, whether it is a row, one to be written, or one that was claimed."""

    @property
    def id(self) -> UUID: ...  # noqa: D102
    @property
    def model(self) -> str: ...  # noqa: D102
    @property
    def action(self) -> str: ...  # noqa: D102
    @property
    def created_at(self) -> dt.datetime: ...  # noqa: D102


class ChangeLike(Protocol):
    """What `event_facts` reads of a change."""

    @property
    def changed_fields(self) -> Sequence[str]: ...  # noqa: D102


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


def event_facts(event: EventLike, change: ChangeLike | None) -> EventFacts:
    """Return what templates see as `event`; a test event without a change has no changed fields."""
    return EventFacts(
        id=encode(Prefix.EVENT, event.id),
        model=event.model,
        action=event.action.lower(),
        changed_fields=tuple(change.changed_fields) if change else (),
        created_at=format_timestamp(event.created_at),
    )
