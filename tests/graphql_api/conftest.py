"""The API in this process: the real schema on a real database, asked with the contract's own operations."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest_asyncio

from ringback.graphql_api.authentication import Bearers
from ringback.graphql_api.context import Context, Services
from ringback.graphql_api.execution import Answer, Engine, Refused, refusal
from ringback.graphql_api.schema import schema
from ringback.graphql_api.tailer import Tailer
from ringback.models import log, tokens
from ringback.models.access import ApiToken, Role
from ringback.models.addresses import AddressPolicy
from ringback.models.declared import DeclaredModel
from ringback.models.event import Attempt, Change, Event
from ringback.models.idempotency import IdempotencyKey
from ringback.models.inbox import Inbox, InboxRequest
from ringback.models.inboxes import InboxAddresses, Inboxes
from ringback.models.lead import Lead
from ringback.models.log import LogEntry
from ringback.models.order import CustomerOrder, OrderCustomer, OrderItem
from ringback.models.site import SiteSettings
from ringback.models.webhook import Webhook
from ringback.models.webhooks import Webhooks
from tests.contract import operations
from tests.rows import BOX

PUBLIC_URL = "http://127.0.0.1:8000"
#: Every table that a mutation may write.
TABLES = (
    ApiToken, Attempt, Change, CustomerOrder, DeclaredModel, Event, IdempotencyKey, Inbox, InboxRequest, Lead, LogEntry,
    OrderCustomer, OrderItem, SiteSettings, Webhook,
)  # fmt: skip


@dataclass(frozen=True)
class Api:
    """Asks as an administrator would."""

    services: Services
    token: ApiToken
    engine: Engine

    def context(self) -> Context:
        return Context(self.services, self.token)

    async def execute(self, operation: str, /, **variables: Any) -> Answer:
        """The whole answer to an operation of the contract, by name, or to any other document."""
        try:
            prepared = await self.engine.operation(operations().get(operation, operation))
        except Refused as refused:
            return refusal(*refused.errors)
        return await self.engine.execute(prepared, variables, self.context())

    async def ask(self, operation: str, /, **variables: Any) -> Any:
        """The value of the only root field; fails when there are top-level errors."""
        result = await self.execute(operation, **variables)
        assert result.errors == (), result.errors
        assert result.data is not None
        (value,) = result.data.values()
        return value

    async def do(self, operation: str, /, **variables: Any) -> Any:
        """The payload of a mutation that must succeed."""
        payload = await self.ask(operation, **variables)
        assert payload["errors"] == []
        return payload

    async def refusals(self, operation: str, /, **variables: Any) -> list[tuple[str, str | None, str]]:
        """(code, field, message) of a mutation that must be refused: it gives nothing else and writes nothing."""
        before = await contents()
        payload = await self.ask(operation, **variables)
        assert payload["errors"] != []
        assert [v for k, v in payload.items() if k not in ("errors", "accepted")] == [None] * (
            len(payload) - 1 - ("accepted" in payload)
        )
        assert payload.get("accepted") in (None, False)
        assert await contents() == before
        return [(e["code"], e["field"], e["message"]) for e in payload["errors"]]

    async def error(self, operation: str, /, **variables: Any) -> tuple[str, str]:
        """(code, message) of the only top-level error; there is no data."""
        result = await self.execute(operation, **variables)
        assert not any((result.data or {}).values())
        (error,) = result.errors
        return (error.extensions or {})["code"], error.message

    async def follow(self, operation: str, /, **variables: Any) -> AsyncGenerator[Answer, None]:
        """The answers of a subscription; close it when done."""
        prepared = await self.engine.operation(operations().get(operation, operation))
        return self.engine.subscribe(prepared, variables, self.context())


async def contents() -> dict[str, list[dict[str, Any]]]:
    """Every row of every table that a mutation may write."""
    return {model.__name__: list(await model.all().order_by(model._meta.pk_attr).values()) for model in TABLES}


@pytest_asyncio.fixture
async def api(database: object) -> AsyncIterator[Api]:
    """The API on a database of this test's own, with its tailer running."""
    addresses = InboxAddresses(PUBLIC_URL)
    services = Services(
        webhooks=Webhooks(AddressPolicy(()), addresses, BOX),
        inboxes=Inboxes(BOX),
        inbox_addresses=addresses,
        tailer=Tailer(await log.epoch()),
        bearers=Bearers(),
    )
    engine = Engine(schema)
    token, _ = await tokens.create_token("tests", Role.ADMIN)
    tailing = asyncio.create_task(services.tailer.run())
    yield Api(services, token, engine)
    engine.close()
    tailing.cancel()
    with suppress(asyncio.CancelledError):
        await tailing
