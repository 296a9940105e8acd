"""Read and change the settings of the site."""

from collections.abc import Mapping
from typing import Any

from tortoise.backends.base.client import BaseDBAsyncClient
from tortoise.transactions import in_transaction

from ringback.models.database import clock
from ringback.models.database.sql import fetch_rows, lock_row
from ringback.models.services.validation import Problems
from ringback.models.site_settings import SiteSettings

#: Reads the only row, by its primary key.
_TRACKS_LEADS = "SELECT track_leads FROM site_settings WHERE id = 1"


async def tracks_leads(db: BaseDBAsyncClient) -> bool:
    """Return whether callback requests become leads."""
    rows = await fetch_rows(db, _TRACKS_LEADS)
    return bool(rows[0][0])


async def update_site_settings(changes: Mapping[str, Any]) -> SiteSettings:
    """Change the given settings. Raises InputRejected."""
    problems = Problems()
    problems.check_nulls(changes, clearable=frozenset())
    problems.raise_if_any()
    async with in_transaction() as db:
        settings = await lock_row(db, SiteSettings, id=1)
        assert settings is not None, "the first migration inserts this row"
        if any(getattr(settings, name) != value for name, value in changes.items()):
            settings.update_from_dict({**changes, "updated_at": await clock.now(db)})
            await settings.save(using_db=db)
        return settings
