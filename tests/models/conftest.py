"""A database with the models of `tests.support.shop`, made once and copied, and a look at what was recorded."""

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
    """A migrated database, closed."""
    folder = tmp_path_factory.mktemp("shop")
    asyncio.run(bootstrap.migrate(load_settings(data_dir=folder, models=MODELS)))
    return folder / "ringback.db"


@pytest.fixture(scope="session")
def shop_postgres(postgres_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a migrated database, closed."""
    url = postgres.migrated(postgres_server, tmp_path_factory.mktemp("shop"), models=MODELS)
    yield url
    asyncio.run(postgres.drop_copies(url))
    asyncio.run(postgres.drop(postgres_server, url))


@pytest.fixture
def shop_template(database_kind: str, request: pytest.FixtureRequest) -> str:
    """What the test's database is a copy of: a file, or the URL of a Postgres database."""
    return str(request.getfixturevalue("shop_file" if database_kind == "sqlite" else "shop_postgres"))


@pytest_asyncio.fixture
async def shop_settings(database_kind: str, tmp_path: Path, shop_template: str) -> AsyncIterator[Settings]:
    """A copy of it, for this test alone."""
    (tmp_path / "data").mkdir()
    if database_kind == "sqlite":
        shutil.copy(shop_template, tmp_path / "data" / "ringback.db")
        yield load_settings(data_dir=tmp_path / "data", models=MODELS)
        return
    async with postgres.copied(shop_template) as url:
        yield load_settings(data_dir=tmp_path / "data", database_url=url, models=MODELS)


@pytest_asyncio.fixture
async def shop(shop_settings: Settings) -> AsyncIterator[Settings]:
    """The copy, open, with its models tracked and nobody watching."""
    async with bootstrap.open_database(shop_settings):
        yield shop_settings


@pytest_asyncio.fixture
async def watched(shop: Settings) -> Settings:
    """The same, with a webhook on every action of products and branches."""
    await watch("product")
    await watch("branch")
    return shop
