"""The API in this process: the schema on a real database, called by an administrator."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from ringback.graphql_api.context.authentication import Authenticator
from ringback.graphql_api.context.live_log import Tailer
from ringback.graphql_api.context.request_context import Context, Services
from ringback.graphql_api.execution.engine import Engine, ExecutionResponse, RequestRefused, error_response
from ringback.graphql_api.schema.build import schema
from ringback.models import delivery_log
from ringback.models.api_token import ApiToken
from ringback.models.customer_order import CustomerOrder, OrderCustomer, OrderItem
from ringback.models.database import clock
from ringback.models.declared_model import DeclaredModel, IdempotencyKey
from ringback.models.delivery_log import LogEntry
from ringback.models.enums import Role, SignatureCheck
from ringback.models.event import Attempt, Change, Event
from ringback.models.ids import Prefix, encode
from ringback.models.inbox import Inbox, InboxRequest
from ringback.models.lead import Lead
from ringback.models.security.address_policy import AddressPolicy
from ringback.models.security.inbox_addresses import InboxAddresses
from ringback.models.services import api_tokens
from ringback.models.services.inboxes import Inboxes
from ringback.models.services.webhooks import Webhooks
from ringback.models.site_settings import SiteSettings
from ringback.models.webhook import Webhook
from tests.contract import operations
from tests.support import builders
from tests.support.builders import BOX, attempt

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

    async def execute(self, operation: str, /, **variables: Any) -> ExecutionResponse:
        """Return the whole answer to an operation of the contract, by name, or to any other document."""
        try:
            prepared = await self.engine.operation(operations().get(operation, operation))
        except RequestRefused as refused:
            return error_response(*refused.errors)
        return await self.engine.execute(prepared, variables, self.context())

    async def ask(self, operation: str, /, **variables: Any) -> Any:
        """Return the value of the only root field; fail when there are top-level errors."""
        result = await self.execute(operation, **variables)
        assert result.errors == (), result.errors
        assert result.data is not None
        (value,) = result.data.values()
        return value

    async def do(self, operation: str, /, **variables: Any) -> Any:
        """Return the payload of a mutation that must succeed."""
        payload = await self.ask(operation, **variables)
        assert payload["errors"] == []
        return payload

    async def refusals(self, operation: str, /, **variables: Any) -> list[tuple[str, str | None, str]]:
        """Return (code, field, message) of a mutation that must be refused, with no other value and nothing written."""
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
        """Return (code, message) of the only top-level error; there is no data."""
        result = await self.execute(operation, **variables)
        assert not any((result.data or {}).values())
        (error,) = result.errors
        return (error.extensions or {})["code"], error.message

    async def follow(self, operation: str, /, **variables: Any) -> AsyncGenerator[ExecutionResponse, None]:
        """Return the answers of a subscription; close it when done."""
        prepared = await self.engine.operation(operations().get(operation, operation))
        return self.engine.subscribe(prepared, variables, self.context())


@asynccontextmanager
async def open_api() -> AsyncIterator[Api]:
    """Make the API on the open database, with its tailer running, while the block runs."""
    addresses = InboxAddresses(PUBLIC_URL)
    services = Services(
        webhooks=Webhooks(AddressPolicy(()), addresses, BOX),
        inboxes=Inboxes(BOX),
        inbox_addresses=addresses,
        tailer=Tailer(await delivery_log.read_epoch()),
        authenticator=Authenticator(),
    )
    engine = Engine(schema)
    token, _ = await api_tokens.create_token("tests", Role.ADMIN)
    tailing = asyncio.create_task(services.tailer.run())
    yield Api(services, token, engine)
    engine.close()
    tailing.cancel()
    with suppress(asyncio.CancelledError):
        await tailing


async def contents() -> dict[str, list[dict[str, Any]]]:
    """Return every row of every table that a mutation may write."""
    return {model.__name__: list(await model.all().order_by(model._meta.pk_attr).values()) for model in TABLES}


async def one_of_each(api: Api) -> dict[str, str]:
    """Make one object of each kind; return its id by the name of its type."""
    event = await builders.event(await builders.webhook())
    (change,) = await Change.all()
    inbox = await Inbox.create(token="t", responses=[], created_at=await clock.now())
    request = await InboxRequest.create(
        inbox_id=inbox.id, received_at=await clock.now(), method="POST", url="/", headers=[], body=b"",
        response_status_code=200, signature=SignatureCheck.ABSENT,
    )  # fmt: skip
    await api.do("UpdateSiteSettings", input={"trackLeads": True})
    lead = (await api.do("RequestCallback", input={"name": "Ada", "phone": "1"}))["lead"]
    order = {"number": "1", "customer": {"name": "Ada"}, "items": []}
    line = {"brand": "Bosch", "article": "1", "name": "Pad", "quantity": 2, "price": "1.50"}
    made = await api.do("CreateCustomerOrder", input={**order, "items": [line]})
    return {
        "Webhook": encode(Prefix.WEBHOOK, event.webhook_id),
        "Change": encode(Prefix.CHANGE, change.id),
        "Event": encode(Prefix.EVENT, event.id),
        "Attempt": encode(Prefix.ATTEMPT, (await attempt(event)).id),
        "Lead": lead["id"],
        "CustomerOrder": made["order"]["id"],
        "Inbox": encode(Prefix.INBOX, inbox.id),
        "InboxRequest": encode(Prefix.REQUEST, request.id),
        "ApiToken": encode(Prefix.TOKEN, api.token.id),
        "WebhookModel": "customer_order",
        "SiteSettings": "site_settings",
    }
