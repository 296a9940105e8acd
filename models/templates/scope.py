"""The names that every template and condition can use: `item` and `event`."""

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol
from uuid import UUID

from ringback.models.ids import Prefix, encode
from ringback.models.timestamps import format_timestamp


class EventLike(Protocol):
    """The attributes of a stored, claimed or unwritten event that `build_event_facts` reads."""

    @property
    def id(self) -> UUID:
        """The event's id."""
        ...

    @property
    def model(self) -> str:
        """The model's name."""
        ...

    @property
    def action(self) -> str:
        """The action, in capitals."""
        ...

    @property
    def created_at(self) -> dt.datetime:
        """The time of the commit."""
        ...


class ChangeLike(Protocol):
    """The attributes of a change that `build_event_facts` reads."""

    @property
    def changed_fields(self) -> Sequence[str]:
        """The fields that an update changed."""
        ...


class EventFacts(NamedTuple):
    """The fields of `event` in templates. `created_at` is ISO 8601 in UTC."""

    id: str
    model: str
    action: str
    changed_fields: tuple[str, ...]
    created_at: str


def build_scope(item: Mapping[str, object], event: EventFacts) -> dict[str, object]:
    """Return the root names: `item`, the object's snapshot, and `event`."""
    return {
        "item": item if type(item) is dict else dict(item),
        "event": {**event._asdict(), "changed_fields": list(event.changed_fields)},
    }


def build_event_facts(event: EventLike, change: ChangeLike | None) -> EventFacts:
    """Return the fields of `event` in templates. A test event without a change has no changed fields."""
    return EventFacts(
        id=encode(Prefix.EVENT, event.id),
        model=event.model,
        action=event.action.lower(),
        changed_fields=tuple(change.changed_fields) if change else (),
        created_at=format_timestamp(event.created_at),
    )
