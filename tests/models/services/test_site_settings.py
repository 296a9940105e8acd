"""Settings of the site: one row, written only if a value changes."""

import pytest

from ringback.models.errors import InputRejected
from ringback.models.services.site_settings import update_site_settings
from ringback.models.site_settings import SiteSettings


async def test_leads_are_not_tracked_by_default(database: object) -> None:
    assert (await SiteSettings.get(id=1)).track_leads is False
    assert await SiteSettings.all().count() == 1


async def test_an_update_without_changes_writes_nothing(database: object) -> None:
    on = await update_site_settings({"track_leads": True})
    assert on.track_leads is True
    for given in ({"track_leads": True}, {}):
        assert (await update_site_settings(given)).updated_at == on.updated_at
    off = await update_site_settings({"track_leads": False})
    assert off.updated_at > on.updated_at
    assert (await SiteSettings.get(id=1)).track_leads is False


async def test_null_is_refused(database: object) -> None:
    with pytest.raises(InputRejected, match="trackLeads is null"):
        await update_site_settings({"track_leads": None})
