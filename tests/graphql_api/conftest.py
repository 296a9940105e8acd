"""The API in this process: the real schema on a real database, asked with the contract's own operations."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
import pytest_asyncio

from ringback.graphql_api import authentication, context, execution, tailer, websocket
from ringback.graphql_api.app import Application
from ringback.graphql_api.authentication import Bearers
from ringback.graphql_api.context import Services
from ringback.graphql_api.execution import Engine
from ringback.graphql_api.schema import schema
from ringback.graphql_api.tailer import Tailer
from ringback.models import log, tokens
from ringback.models.access import Role
from ringback.models.addresses import AddressPolicy
from ringback.models.inboxes import InboxAddresses, Inboxes
from ringback.models.webhooks import Webhooks
from tests.support.api import PUBLIC_URL, Api
from tests.support.builders import BOX
from tests.support.patience import PATIENCE_SECONDS
from tests.support.websocket_client import ADMIN, Served, serving


@pytest.fixture(autouse=True)
def _no_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep shared answers and trusted tokens for longer than any test takes, so that no result depends on the load.

    Clients may also be slow to send connection_init.
    """
    monkeypatch.setattr(execution, "KEPT_SECONDS", PATIENCE_SECONDS)
    monkeypatch.setattr(tailer, "KEPT_SECONDS", PATIENCE_SECONDS)
    monkeypatch.setattr(authentication, "TRUSTED_SECONDS", PATIENCE_SECONDS)
    monkeypatch.setattr(context, "TRUSTED_SECONDS", PATIENCE_SECONDS)
    monkeypatch.setattr(websocket, "INIT_SECONDS", PATIENCE_SECONDS)


@pytest_asyncio.fixture
async def api(database: object) -> AsyncIterator[Api]:
    """Make the API on a database of this test's own, with its tailer running."""
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


@pytest_asyncio.fixture
async def served(api: Api) -> AsyncIterator[Served]:
    """Serve the API on a port of this machine; ADMIN is the secret of a valid token."""
    await tokens.ensure_admin(ADMIN, "ws")
    async with serving(Application(api.services, api.engine)) as port:
        yield Served(api, port)
