"""The API in this process: the real schema on a real database, asked with the contract's own operations."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from ringback.graphql_api.app import Application
from ringback.graphql_api.context import authentication, live_log, request_context
from ringback.graphql_api.execution import engine as engine_module
from ringback.graphql_api.transport import websocket
from ringback.models.services import api_tokens
from tests.support.api import Api, open_api
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
    async with open_api() as opened:
        yield opened


@pytest_asyncio.fixture
async def served(api: Api) -> AsyncIterator[Served]:
    """Serve the API on a port of this machine; ADMIN is the secret of a valid token."""
    await api_tokens.ensure_admin(ADMIN, "ws")
    async with serving(Application(api.services, api.engine)) as port:
        yield Served(api, port)
