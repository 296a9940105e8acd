"""API tokens: bearer tokens, stored as hashes."""

from tortoise import fields
from tortoise.models import Model

from ringback.models.enums import Role
from ringback.models.ids import new_key


class ApiToken(Model):
    """A bearer token, stored as the SHA-256 hash of its secret."""

    id = fields.UUIDField(primary_key=True, default=new_key)
    name = fields.CharField(max_length=200)
    role = fields.CharEnumField(Role, max_length=16)
    token_hash = fields.CharField(max_length=64, unique=True)
    created_at = fields.DatetimeField()
    expires_at = fields.DatetimeField(null=True)
    last_used_at = fields.DatetimeField(null=True)
    revoked_at = fields.DatetimeField(null=True)

    class Meta:
        table = "ringback_api_token"
        app = "ringback"
