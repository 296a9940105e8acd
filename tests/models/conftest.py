"""A database with the models of `tests.models.shop`, made once and copied, and a look at what was recorded."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from ringback.models import Settings, clock, db, load_settings
from ringback.models.event import Change, Event
from ringback.models.log import LogEntry
from ringback.models.webhook import Webhook
from tests import postgres

#: (model, action, object id, changed fields), in the order of recording.
Seen = tuple[str, str, str, list[str]]
MODELS = ("tests.models.shop",)


@pytest.fixture(scope="session")
def shop_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated database, closed."""
    folder = tmp_path_factory.mktemp("shop")
    asyncio.run(db.migrate(load_settings(data_dir=folder, models=MODELS)))
    return folder / "ringback.db"


@pytest.fixture(scope="session")
def shop_postgres(postgres_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a migrated database, closed."""
    url = postgres.migrated(postgres_server, tmp_path_factory.mktemp("shop"), models=MODELS)
    yield url
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
    async with db.opened(shop_settings):
        yield shop_settings


@pytest_asyncio.fixture
async def watched(shop: Settings) -> Settings:
    """The same, with a webhook on every action of products and branches."""
    await watch("product")
    await watch("branch")
    return shop


async def watch(model: str, actions: tuple[str, ...] = ("CREATED", "UPDATED", "DELETED"), **values: Any) -> Webhook:
    """A webhook, straight into its table."""
    now = await clock.now()
    return await Webhook.create(
        model=model, actions=list(actions), url="https://x.example/", signing_secret="", created_at=now, updated_at=now,
        **values,
    )  # fmt: skip


async def changes() -> list[Seen]:
    """All changes; each has exactly one event and one log entry, as with one webhook a model."""
    found = await Change.all().order_by("id")
    events = await Event.all().order_by("id").values_list("change_id", flat=True)
    logged = await LogEntry.all().order_by("id").values_list("event_id", "kind")
    assert list(events) == [c.id for c in found]
    keys = await Event.all().order_by("id").values_list("id", flat=True)
    assert list(logged) == [(key, "EVENT_RECORDED") for key in keys]
    return [(c.model, c.action.lower(), c.object_id, c.changed_fields) for c in found]


async def forget() -> None:
    """Remove what was recorded up to here."""
    await LogEntry.all().delete()
    await Event.all().delete()
    await Change.all().delete()


async def item(number: int = -1) -> dict[str, Any]:
    """The snapshot of a change, of the last one unless told."""
    return (await Change.all().order_by("id"))[number].item


async def counts() -> tuple[int, int, int]:
    """How many changes, events and log entries there are."""
    return await Change.all().count(), await Event.all().count(), await LogEntry.all().count()
