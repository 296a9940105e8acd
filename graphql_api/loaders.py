"""DataLoaders: what the nodes of a page need is read in one statement per kind, whatever the page's length.

They batch and do not cache: over a WebSocket one context serves many operations, and `event` in the live log is the
event as it is now.
"""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar
from uuid import UUID

from strawberry.dataloader import DataLoader
from tortoise.models import Model

from ringback.models.catalog import Watchable, find_declared
from ringback.models.event import Attempt, Change, Event
from ringback.models.inbox import InboxRequest
from ringback.models.order import OrderCustomer, OrderItem
from ringback.models.reading import read
from ringback.models.statements import fetch, key_of
from ringback.models.states import OutcomeName
from ringback.models.webhook import Webhook

M = TypeVar("M", bound=Model)
#: A row of any table, by its model and id.
RowKey: TypeAlias = tuple[type[Model], UUID]
#: An attempt as a receiver knows it: its event's id and its number.
AttemptKey: TypeAlias = tuple[UUID, int]


@dataclass(frozen=True, slots=True)
class Loaders:
    """All loaders of one context."""

    row: DataLoader[RowKey, Any]
    webhook: DataLoader[UUID, Webhook | None]
    change: DataLoader[UUID, Change | None]
    event: DataLoader[UUID, Event | None]
    attempt: DataLoader[UUID, Attempt | None]
    attempts_of_event: DataLoader[UUID, list[Attempt]]
    events_of_change: DataLoader[UUID, list[Event]]
    last_attempt_of_webhook: DataLoader[UUID, Attempt | None]
    request_of_attempt: DataLoader[AttemptKey, InboxRequest | None]
    customer_of_order: DataLoader[UUID, OrderCustomer | None]
    items_of_order: DataLoader[UUID, list[OrderItem]]
    declared_model: DataLoader[str, Watchable | None]


def new_loaders() -> Loaders:
    """Loaders for one request or connection."""
    return Loaders(
        row=_loader(_rows),
        webhook=_loader(_by_id(Webhook)),
        change=_loader(_by_id(Change)),
        event=_loader(_by_id(Event)),
        attempt=_loader(_by_id(Attempt)),
        attempts_of_event=_loader(_lists(Attempt, "event_id", "number")),
        events_of_change=_loader(_lists(Event, "change_id", "id")),
        last_attempt_of_webhook=_loader(_last_attempts),
        request_of_attempt=_loader(_received),
        customer_of_order=_loader(_customers),
        items_of_order=_loader(_lists(OrderItem, "order_id", "position")),
        declared_model=DataLoader(load_fn=_declared_models, cache=False),
    )


def _loader(load: Callable[[list[Any]], Awaitable[Any]]) -> DataLoader[Any, Any]:
    return DataLoader(load_fn=load, cache=False)


def _by_id(model: type[M]) -> Callable[[list[UUID]], Awaitable[list[M | None]]]:
    async def load(keys: list[UUID]) -> list[M | None]:
        rows: dict[UUID, M] = {row.pk: row for row in await read(model.filter(id__in=set(keys)))}
        return [rows.get(key) for key in keys]

    return load


async def _rows(keys: list[RowKey]) -> list[Any]:
    found: dict[RowKey, Any] = {}
    for model in {model for model, _ in keys}:
        wanted = [key for of, key in keys if of is model]
        found |= {(model, row.pk): row for row in await read(model.filter(id__in=set(wanted)))}
    return [found.get(key) for key in keys]


def _lists(model: type[M], column: str, order: str) -> Callable[[list[UUID]], Awaitable[list[list[M]]]]:
    async def load(keys: list[UUID]) -> list[list[M]]:
        found: dict[UUID, list[M]] = {key: [] for key in keys}
        for row in await read(model.filter(**{f"{column}__in": set(keys)}).order_by(order)):
            found[getattr(row, column)].append(row)
        return [found[key] for key in keys]

    return load


async def _customers(keys: list[UUID]) -> list[OrderCustomer | None]:
    rows = {row.order_id: row for row in await OrderCustomer.filter(order_id__in=set(keys))}
    return [rows.get(key) for key in keys]


async def _declared_models(names: list[str]) -> list[Watchable | None]:
    found = await find_declared(names)
    return [found.get(name) for name in names]


async def _last_attempts(keys: list[UUID]) -> list[Attempt | None]:
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
    found = sorted((key_of(row["attempt"]), key_of(row["webhook"])) for row in rows if row["attempt"])
    newest = {webhook: attempt for attempt, webhook in found}
    attempts = await _by_id(Attempt)(list(_present(newest.get(key) for key in keys)))
    by_id = {attempt.id: attempt for attempt in _present(attempts)}
    return [by_id.get(newest[key]) if key in newest else None for key in keys]


async def _received(keys: list[AttemptKey]) -> list[InboxRequest | None]:
    """The first request that any inbox received for each attempt; whoever repeats one changes nothing."""
    requests = InboxRequest.filter(event_id__in={event for event, _ in keys}, attempt_number__isnull=False)
    found = await requests.order_by("-id").values_list("event_id", "attempt_number", "id")
    first = {(event, number): request for event, number, request in found}
    rows = await _by_id(InboxRequest)([first[key] for key in keys if key in first])
    by_id = {row.id: row for row in _present(rows)}
    return [by_id.get(first[key]) if key in first else None for key in keys]


def _present(values: Iterable[Any]) -> Iterable[Any]:
    return (value for value in values if value is not None)
