"""The site's settings: one row, written when something changes."""

import pytest

from ringback.models.errors import InputRejected
from ringback.models.services.site_settings import update_site_settings
from ringback.models.site_settings import SiteSettings


async def test_leads_are_not_tracked_unless_asked_for(database: object) -> None:
    assert (await SiteSettings.get(id=1)).track_leads is False
    assert await SiteSettings.all().count() == 1


async def test_what_does_not_change_is_not_written(database: object) -> None:
    on = await update_site_settings({"track_leads": True})
    assert on.track_leads is True
    for given in ({"track_leads": True}, {}):
        assert (await update_site_settings(given)).updated_at == on.updated_at
    off = await update_site_settings({"track_leads": False})
    assert off.updated_at > on.updated_at
    assert (await SiteSettings.get(id=1)).track_leads is False


async def test_null_is_refused(database: object) -> None:
    with pytest.raises(InputRejected, match="cannot be null"):
        await update_site_settings({"track_leads": None})
