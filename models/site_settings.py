"""The site's settings: one row, made by the first migration."""

from tortoise import fields
from tortoise.models import Model


class SiteSettings(Model):
    """What an administrator decides for the whole site."""

    id = fields.IntField(primary_key=True, generated=False)
    #: Whether callback requests become leads (rule 10 of the design).
    track_leads = fields.BooleanField(default=False)
    updated_at = fields.DatetimeField()

    class Meta:
        table = "site_settings"
        app = "ringback"
