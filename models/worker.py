"""Worker processes and their leases."""

from tortoise import fields
from tortoise.models import Model


class Worker(Model):
    """A worker process and its lease. Events in flight name the worker that claimed them."""

    id = fields.UUIDField(primary_key=True)
    host = fields.CharField(max_length=255)
    pid = fields.IntField()
    started_at = fields.DatetimeField()
    #: End of the lease by the database clock, null for a lease without end (SQLite).
    alive_until = fields.DatetimeField(null=True)

    class Meta:
        table = "ringback_worker"
        app = "ringback"
