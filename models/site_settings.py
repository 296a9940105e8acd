"""Settings of the site: one row, inserted by the first migration."""

from tortoise import fields
from tortoise.models import Model


class SiteSettings(Model):
    """Settings for the whole site."""

    id = fields.IntField(primary_key=True, generated=False)
    #: Whether callback requests are stored as leads.
    track_leads = fields.BooleanField(default=False)
    updated_at = fields.DatetimeField()

    class Meta:
        table = "site_settings"
        app = "ringback"
