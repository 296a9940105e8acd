"""Databases with the models of `tests.support.shop`: migrated once, then copied for each test."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from ringback.models import Settings, bootstrap, load_settings
from tests.support import postgres
from tests.support.recorded import MODELS, watch


@pytest.fixture(scope="session")
def shop_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the file of a migrated database that is not open."""
    folder = tmp_path_factory.mktemp("shop")
    asyncio.run(bootstrap.migrate(load_settings(data_dir=folder, models=MODELS)))
    return folder / "ringback.db"


@pytest.fixture(scope="session")
def shop_postgres(postgres_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Yield the URL of a migrated database that is not open."""
    url = postgres.migrated(postgres_server, tmp_path_factory.mktemp("shop"), models=MODELS)
    yield url
    asyncio.run(postgres.drop_copies(url))
    asyncio.run(postgres.drop(postgres_server, url))


@pytest.fixture
def shop_template(database_kind: str, request: pytest.FixtureRequest) -> str:
    """Return the file or URL of the database to copy for each test."""
    return str(request.getfixturevalue("shop_file" if database_kind == "sqlite" else "shop_postgres"))


@pytest_asyncio.fixture
async def shop_settings(database_kind: str, tmp_path: Path, shop_template: str) -> AsyncIterator[Settings]:
    """Yield the settings for this test's copy of the database."""
    (tmp_path / "data").mkdir()
    if database_kind == "sqlite":
        shutil.copy(shop_template, tmp_path / "data" / "ringback.db")
        yield load_settings(data_dir=tmp_path / "data", models=MODELS)
        return
    async with postgres.copied(shop_template) as url:
        yield load_settings(data_dir=tmp_path / "data", database_url=url, models=MODELS)


@pytest_asyncio.fixture
async def shop(shop_settings: Settings) -> AsyncIterator[Settings]:
    """Open the copy, without webhooks."""
    async with bootstrap.open_database(shop_settings):
        yield shop_settings


@pytest_asyncio.fixture
async def watched(shop: Settings) -> Settings:
    """Open the copy, with webhooks on every action of products and branches."""
    await watch("product")
    await watch("branch")
    return shop
