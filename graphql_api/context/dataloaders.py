"""DataLoaders: the rows that a page's nodes need, read by one statement per kind of row, whatever the page size.

They batch and do not cache: one WebSocket context serves many operations, and `event` in the live log must be current.
"""

import base64
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, TypeAlias, TypeVar
from uuid import UUID

from strawberry.dataloader import DataLoader
from tortoise.models import Model

from ringback.models.customer_order import OrderCustomer, OrderItem
from ringback.models.database.row_decoding import read_instances
from ringback.models.database.sql import array_parameter, as_uuid, fetch, is_postgres
from ringback.models.enums import OutcomeName
from ringback.models.event import Attempt, Change, Event
from ringback.models.inbox import REQUEST_WITHOUT_BODY, InboxRequest
from ringback.models.services.webhook_models import WatchableModel, find_declared
from ringback.models.tracking.cooperative import LoopYielder
from ringback.models.webhook import Webhook

M = TypeVar("M", bound=Model)
#: Reads a batch: a value for each key, in the order of the keys.
Load: TypeAlias = Callable[[list[Any]], Awaitable[Sequence[Any]]]
#: An attempt as its receiver identifies it: the event's id and the attempt number.
AttemptKey: TypeAlias = tuple[UUID, int]


class Loaders(dict[Load, DataLoader[Any, Any]]):
    """The DataLoaders of one request or connection, by load function. Each is made at its first use."""

    def __missing__(self, load: Load) -> DataLoader[Any, Any]:
        loader = self[load] = DataLoader(load_fn=load, cache=False)
        return loader


async def _read_by_key(
    model: type[M], keys: Iterable[UUID], column: str = "id", only: Sequence[str] = ()
) -> dict[UUID, M]:
    matching = model.filter(**{f"{column}__in": set(keys)})
    if only:
        matching = matching.only(*only)
    return {getattr(row, column): row for row in await read_instances(matching)}


def make_row_loader(
    model: type[M], column: str = "id", only: Sequence[str] = ()
) -> Callable[[list[UUID]], Awaitable[list[M | None]]]:
    """Return a function that reads a batch of rows of a model, by a column. `only` names the attributes to read."""

    async def load(keys: list[UUID]) -> list[M | None]:
        rows = await _read_by_key(model, keys, column, only)
        return [rows.get(key) for key in keys]

    return load


def _make_list_loader(model: type[M], column: str, order: str) -> Callable[[list[UUID]], Awaitable[list[list[M]]]]:
    async def load(keys: list[UUID]) -> list[list[M]]:
        rows_by_key: dict[UUID, list[M]] = {key: [] for key in keys}
        for row in await read_instances(model.filter(**{f"{column}__in": set(keys)}).order_by(order)):
            rows_by_key[getattr(row, column)].append(row)
        return [rows_by_key[key] for key in keys]

    return load


webhook = make_row_loader(Webhook)
change = make_row_loader(Change)
event = make_row_loader(Event)
attempt = make_row_loader(Attempt)
attempts_of_event = _make_list_loader(Attempt, "event_id", "number")
events_of_change = _make_list_loader(Event, "change_id", "id")
customer_of_order = make_row_loader(OrderCustomer, "order_id")
items_of_order = _make_list_loader(OrderItem, "order_id", "position")


async def declared_model(names: list[str]) -> list[WatchableModel | None]:
    """Read declared models by name."""
    models = await find_declared(names)
    return [models.get(name) for name in names]


#: The newest attempt of each webhook with each outcome: one look-up in ringback_attempt(webhook_id, outcome, id) each.
_NEWEST_ATTEMPTS_POSTGRES = """
SELECT webhook.id AS webhook, (
    SELECT id FROM ringback_attempt WHERE webhook_id = webhook.id AND outcome = outcomes.name ORDER BY id DESC LIMIT 1
) AS attempt
FROM unnest($1::uuid[]) webhook(id) CROSS JOIN unnest($2::text[]) outcomes(name)
"""
#: The same on SQLite.
_NEWEST_ATTEMPTS_SQLITE = """
SELECT webhook.value AS webhook, (
    SELECT id FROM ringback_attempt WHERE webhook_id = webhook.value AND outcome = outcomes.value
    ORDER BY id DESC LIMIT 1
) AS attempt
FROM json_each($1) webhook CROSS JOIN json_each($2) outcomes
"""


async def last_attempt_of_webhook(keys: list[UUID]) -> list[Attempt | None]:
    """Read the newest attempt of each webhook, without scanning the attempts."""
    db = Attempt._meta.db
    statement = _NEWEST_ATTEMPTS_POSTGRES if is_postgres(db) else _NEWEST_ATTEMPTS_SQLITE
    rows = await fetch(db, statement, array_parameter(db, set(keys)), array_parameter(db, list(OutcomeName)))
    newest: dict[UUID, UUID] = {}
    for row in rows:
        if row["attempt"] is not None:
            webhook_id, attempt_id = as_uuid(row["webhook"]), as_uuid(row["attempt"])
            newest[webhook_id] = max(attempt_id, newest.get(webhook_id, attempt_id))
    attempts = await _read_by_key(Attempt, newest.values())
    attempts_by_webhook = {webhook_id: attempts.get(attempt_id) for webhook_id, attempt_id in newest.items()}
    return [attempts_by_webhook.get(key) for key in keys]


#: The first request with each number that names one of the events, by the index on event_id.
_FIRST_REQUESTS_POSTGRES = """
SELECT DISTINCT ON (event_id, attempt_number) event_id, attempt_number, id FROM ringback_inbox_request
WHERE event_id = ANY($1::uuid[]) AND attempt_number = ANY($2::int[]) ORDER BY event_id, attempt_number, id
"""
#: The same on SQLite.
_FIRST_REQUESTS_SQLITE = """
SELECT event_id, attempt_number, min(id) AS id FROM ringback_inbox_request
WHERE event_id IN (SELECT value FROM json_each($1)) AND attempt_number IN (SELECT value FROM json_each($2))
GROUP BY event_id, attempt_number
"""


async def request_of_attempt(keys: list[AttemptKey]) -> list[InboxRequest | None]:
    """Read the first request that an inbox received for each attempt. Repeated requests change nothing."""
    db = InboxRequest._meta.db
    statement = _FIRST_REQUESTS_POSTGRES if is_postgres(db) else _FIRST_REQUESTS_SQLITE
    event_ids = array_parameter(db, {event_id for event_id, _ in keys})
    numbers = array_parameter(db, {number for _, number in keys})
    request_ids: dict[AttemptKey, UUID] = {}
    for row in await fetch(db, statement, event_ids, numbers):
        request_ids[as_uuid(row["event_id"]), row["attempt_number"]] = as_uuid(row["id"])
    wanted = [request_ids[key] for key in request_ids.keys() & set(keys)]
    rows = await _read_by_key(InboxRequest, wanted, only=REQUEST_WITHOUT_BODY)
    requests = {key: rows.get(request_id) for key, request_id in request_ids.items()}
    return [requests.get(key) for key in keys]


async def body_of_request(requests: list[InboxRequest]) -> list[bytes | None]:
    """Return the bodies of requests of inboxes, and read those that are missing. None for a request that is deleted."""
    bodies = {request.id: bytes(request.body) for request in requests if hasattr(request, "body")}
    missing = {request.id for request in requests} - bodies.keys()
    if missing:
        rows = await _read_by_key(InboxRequest, missing, only=("id", "body"))
        bodies |= {key: bytes(row.body) for key, row in rows.items()}
    return [bodies.get(request.id) for request in requests]


async def base64_body_of_request(requests: list[InboxRequest]) -> list[str | None]:
    """Return the bodies in base64, as `body_of_request` does. Encoding 1 MB takes 2 ms, so other work gets turns."""
    yielder = LoopYielder()
    encoded_bodies: list[str | None] = []
    for body in await body_of_request(requests):
        await yielder.pause()
        encoded_bodies.append(None if body is None else base64.b64encode(body).decode())
    return encoded_bodies
