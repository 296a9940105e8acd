"""DataLoaders: what the nodes of a page need is read in one statement per kind, whatever the page's length.

They batch and do not cache: over a WebSocket one context serves many operations, and `event` in the live log is the
event as it is now.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, TypeAlias, TypeVar
from uuid import UUID

from strawberry.dataloader import DataLoader
from tortoise.models import Model

from ringback.models.customer_order import OrderCustomer, OrderItem
from ringback.models.database.row_decoding import read
from ringback.models.database.sql import as_uuid, fetch
from ringback.models.enums import OutcomeName
from ringback.models.event import Attempt, Change, Event
from ringback.models.inbox import InboxRequest
from ringback.models.services.webhook_models import WatchableModel, find_declared
from ringback.models.webhook import Webhook

M = TypeVar("M", bound=Model)
#: What reads a batch: a value for each key, in the order of the keys.
Load: TypeAlias = Callable[[list[Any]], Awaitable[Sequence[Any]]]
#: A row of any table, by its model and id.
RowKey: TypeAlias = tuple[type[Model], UUID]
#: An attempt as a receiver knows it: its event's id and its number.
AttemptKey: TypeAlias = tuple[UUID, int]


class Loaders(dict[Load, DataLoader[Any, Any]]):
    """The loaders of one request or connection, by what reads a batch; each is made when it is first needed."""

    def __missing__(self, load: Load) -> DataLoader[Any, Any]:
        loader = self[load] = DataLoader(load_fn=load, cache=False)
        return loader


async def _rows(model: type[M], keys: Iterable[UUID], column: str = "id") -> dict[UUID, M]:
    rows = await read(model.filter(**{f"{column}__in": set(keys)}))
    return {getattr(row, column): row for row in rows}


def _one(model: type[M], column: str = "id") -> Callable[[list[UUID]], Awaitable[list[M | None]]]:
    async def load(keys: list[UUID]) -> list[M | None]:
        rows = await _rows(model, keys, column)
        return [rows.get(key) for key in keys]

    return load


def _many(model: type[M], column: str, order: str) -> Callable[[list[UUID]], Awaitable[list[list[M]]]]:
    async def load(keys: list[UUID]) -> list[list[M]]:
        found: dict[UUID, list[M]] = {key: [] for key in keys}
        for row in await read(model.filter(**{f"{column}__in": set(keys)}).order_by(order)):
            found[getattr(row, column)].append(row)
        return [found[key] for key in keys]

    return load


webhook = _one(Webhook)
change = _one(Change)
event = _one(Event)
attempt = _one(Attempt)
attempts_of_event = _many(Attempt, "event_id", "number")
events_of_change = _many(Event, "change_id", "id")
customer_of_order = _one(OrderCustomer, "order_id")
items_of_order = _many(OrderItem, "order_id", "position")


async def row(keys: list[RowKey]) -> list[Any]:
    """Any rows, one statement for each model."""
    found: dict[RowKey, Any] = {}
    for model in {model for model, _ in keys}:
        wanted = [key for of, key in keys if of is model]
        rows = await _rows(model, wanted)
        found |= {(model, key): one for key, one in rows.items()}
    return [found.get(key) for key in keys]


async def declared_model(names: list[str]) -> list[WatchableModel | None]:
    """The declared models of these names."""
    found = await find_declared(names)
    return [found.get(name) for name in names]


async def last_attempt_of_webhook(keys: list[UUID]) -> list[Attempt | None]:
    """The newest attempt of each webhook: for each outcome one look into the index, not a scan of all attempts."""
    webhooks = set(keys)
    marks = ", ".join(f"${number}" for number in range(1, len(webhooks) + 1))
    outcomes = ", ".join(f"('{outcome}')" for outcome in OutcomeName)
    rows = await fetch(
        Attempt._meta.db,
        "SELECT w.id AS webhook, (SELECT a.id FROM ringback_attempt a WHERE a.webhook_id = w.id "
        "AND a.outcome = o.column1 ORDER BY a.id DESC LIMIT 1) AS attempt "
        f"FROM ringback_webhook w CROSS JOIN (VALUES {outcomes}) o WHERE w.id IN ({marks})",
        *webhooks,
    )
    found = sorted((as_uuid(row["attempt"]), as_uuid(row["webhook"])) for row in rows if row["attempt"])
    newest = {webhook: attempt for attempt, webhook in found}
    attempts = await _rows(Attempt, newest.values())
    return [attempts.get(newest[key]) if key in newest else None for key in keys]


async def request_of_attempt(keys: list[AttemptKey]) -> list[InboxRequest | None]:
    """The first request that any inbox received for each attempt; whoever repeats one changes nothing."""
    requests = InboxRequest.filter(event_id__in={event for event, _ in keys}, attempt_number__isnull=False)
    found = await requests.order_by("-id").values_list("event_id", "attempt_number", "id")
    first = {(event, number): request for event, number, request in found}
    wanted = [first[key] for key in keys if key in first]
    rows = await _rows(InboxRequest, wanted)
    return [rows.get(first[key]) if key in first else None for key in keys]
