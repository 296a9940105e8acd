"""Settings of the site: read and change them."""

from collections.abc import Mapping
from typing import Any

from tortoise.backends.base.client import BaseDBAsyncClient
from tortoise.transactions import in_transaction

from ringback.models.database import clock
from ringback.models.database.sql import fetch_rows, lock
from ringback.models.services.validation import Problems
from ringback.models.site_settings import SiteSettings


async def tracks_leads(db: BaseDBAsyncClient) -> bool:
    """Whether callback requests become leads now."""
    ((tracks,),) = await fetch_rows(db, "SELECT track_leads FROM site_settings WHERE id = 1")
    return bool(tracks)


async def update_site_settings(changes: Mapping[str, Any]) -> SiteSettings:
    """Change the given settings; raises InputRejected."""
    problems = Problems()
    problems.no_nulls(changes, clearable=frozenset())
    problems.refuse_if_any()
    async with in_transaction() as db:
        settings = await lock(db, SiteSettings, id=1)
        assert settings is not None, "a migration made it"
        if any(getattr(settings, name) != value for name, value in changes.items()):
            settings.update_from_dict({**changes, "updated_at": await clock.now(db)})
            await settings.save(using_db=db)
        return settings
