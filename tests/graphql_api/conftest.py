"""The API in this process: the real schema on a real database, asked with the contract's own operations."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
import pytest_asyncio

from ringback.graphql_api.app import Application
from ringback.graphql_api.context import authentication, live_log, request_context
from ringback.graphql_api.context.authentication import Authenticator
from ringback.graphql_api.context.live_log import Tailer
from ringback.graphql_api.context.request_context import Services
from ringback.graphql_api.execution import engine as engine_module
from ringback.graphql_api.execution.engine import Engine
from ringback.graphql_api.schema.build import schema
from ringback.graphql_api.transport import websocket
from ringback.models import delivery_log
from ringback.models.enums import Role
from ringback.models.security.address_policy import AddressPolicy
from ringback.models.security.inbox_addresses import InboxAddresses
from ringback.models.services import api_tokens
from ringback.models.services.inboxes import Inboxes
from ringback.models.services.webhooks import Webhooks
from tests.support.api import PUBLIC_URL, Api
from tests.support.builders import BOX
from tests.support.patience import PATIENCE_SECONDS
from tests.support.websocket_client import ADMIN, Served, serving


@pytest.fixture(autouse=True)
def _no_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cache shared responses and trusted tokens for longer than any test takes, so that no result depends on the load.

    Clients may also be slow to send connection_init.
    """
    monkeypatch.setattr(engine_module, "RESPONSE_CACHE_SECONDS", PATIENCE_SECONDS)
    monkeypatch.setattr(live_log, "PAGE_CACHE_SECONDS", PATIENCE_SECONDS)
    monkeypatch.setattr(authentication, "TRUSTED_SECONDS", PATIENCE_SECONDS)
    monkeypatch.setattr(request_context, "TRUSTED_SECONDS", PATIENCE_SECONDS)
    monkeypatch.setattr(websocket, "INIT_SECONDS", PATIENCE_SECONDS)


@pytest_asyncio.fixture
async def api(database: object) -> AsyncIterator[Api]:
    """Make the API on a database of this test's own, with its tailer running."""
    addresses = InboxAddresses(PUBLIC_URL)
    services = Services(
        webhooks=Webhooks(AddressPolicy(()), addresses, BOX),
        inboxes=Inboxes(BOX),
        inbox_addresses=addresses,
        tailer=Tailer(await delivery_log.read_epoch()),
        bearers=Authenticator(),
    )
    engine = Engine(schema)
    token, _ = await api_tokens.create_token("tests", Role.ADMIN)
    tailing = asyncio.create_task(services.tailer.run())
    yield Api(services, token, engine)
    engine.close()
    tailing.cancel()
    with suppress(asyncio.CancelledError):
        await tailing


@pytest_asyncio.fixture
async def served(api: Api) -> AsyncIterator[Served]:
    """Serve the API on a port of this machine; ADMIN is the secret of a valid token."""
    await api_tokens.ensure_admin(ADMIN, "ws")
    async with serving(Application(api.services, api.engine)) as port:
        yield Served(api, port)
