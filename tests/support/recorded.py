"""What was recorded of the models in `tests.support.shop`."""

from typing import Any

from ringback.models.database import clock
from ringback.models.delivery_log import LogEntry
from ringback.models.event import Change, Event
from ringback.models.webhook import Webhook

#: (model, action, object id, changed fields), in the order of recording.
Seen = tuple[str, str, str, list[str]]


MODELS = ("tests.support.shop",)


async def watch(model: str, actions: tuple[str, ...] = ("CREATED", "UPDATED", "DELETED"), **values: Any) -> Webhook:
    """A webhook, straight into its table."""
    now = await clock.now()
    return await Webhook.create(
        model=model, actions=list(actions), url="https://x.example/", signing_secret="", created_at=now, updated_at=now,
        **values,
    )  # fmt: skip


async def changes() -> list[Seen]:
    """All changes; each has exactly one event and one log entry, as with one webhook a model."""
    found = await Change.all().order_by("id")
    events = await Event.all().order_by("id").values_list("change_id", flat=True)
    logged = await LogEntry.all().order_by("id").values_list("event_id", "kind")
    assert list(events) == [c.id for c in found]
    keys = await Event.all().order_by("id").values_list("id", flat=True)
    assert list(logged) == [(key, "EVENT_RECORDED") for key in keys]
    return [(c.model, c.action.lower(), c.object_id, c.changed_fields) for c in found]


async def forget() -> None:
    """Remove what was recorded up to here."""
    await LogEntry.all().delete()
    await Event.all().delete()
    await Change.all().delete()


async def item(number: int = -1) -> dict[str, Any]:
    """The snapshot of a change, of the last one unless told."""
    return (await Change.all().order_by("id"))[number].item


async def counts() -> tuple[int, int, int]:
    """How many changes, events and log entries there are."""
    return await Change.all().count(), await Event.all().count(), await LogEntry.all().count()
