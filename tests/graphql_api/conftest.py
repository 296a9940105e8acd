"""The API in this process: a schema on a migrated database, with an administrator who asks."""

import logging
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest_asyncio
from ringback.graphql_api.context import Context, Services
from ringback.graphql_api.schema import schema
from ringback.graphql_api.tailer import Tailer
from ringback.models import log, tokens
from ringback.models.access import ApiToken, Role
from ringback.models.addresses import AddressPolicy
from ringback.models.inboxes import InboxAddresses, Inboxes
from ringback.models.settings import Settings
from ringback.models.webhooks import Webhooks

from tests.rows import BOX

PUBLIC_URL = "http://127.0.0.1:8123"


class Api:
    """`await api(document, **variables)` gives the data; `api.errors` and `api.top_level` what was refused."""

    def __init__(self, services: Services, viewer: ApiToken) -> None:
        self.services = services
        self.viewer = viewer

    async def execute(self, document: str, variables: Mapping[str, Any] | None = None) -> Any:
        """The whole result."""
        context = Context(self.services, self.viewer)
        return await schema.execute(document, variable_values=dict(variables or {}), context_value=context)

    async def __call__(self, document: str, **variables: Any) -> Any:
        """The data; fails when there are top-level errors."""
        result = await self.execute(document, variables)
        assert result.errors is None, result.errors
        return result.data

    async def refused(self, document: str, **variables: Any) -> list[tuple[str, str, str]]:
        """(code, field, message) of each InputError of the only mutation, whose other fields must be null."""
        data = await self(document, **variables)
        (payload,) = data.values()
        errors = payload.pop("errors")
        assert not any(payload.values()), payload
        return [(e["code"], e["field"], e["message"]) for e in errors]

    async def top_level(self, document: str, **variables: Any) -> list[tuple[str, str]]:
        """(extensions.code, message) of each top-level error."""
        result = await self.execute(document, variables)
        assert result.errors
        return [(e.extensions["code"], e.message) for e in result.errors]


@pytest_asyncio.fixture
async def api(database: Settings) -> AsyncIterator[Api]:
    """The API of an empty database, asked by an administrator."""
    addresses = InboxAddresses(PUBLIC_URL)
    services = Services(
        webhooks=Webhooks(AddressPolicy(()), addresses, BOX),
        inboxes=Inboxes(BOX),
        inbox_addresses=addresses,
        tailer=Tailer(await log.epoch()),
    )
    viewer, _ = await tokens.create_token("tests", Role.ADMIN)
    yield Api(services, viewer)


@contextmanager
def counted() -> Iterator[list[str]]:
    """The SQL statements that are executed within the block."""
    statements: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            statements.append(record.getMessage())

    logger, handler = logging.getLogger("tortoise.db_client"), Handler()
    before = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    try:
        yield statements
    finally:
        logger.removeHandler(handler)
        logger.level, logger.propagate = before
