"""What administrators do with API tokens, and who a bearer token is."""

import datetime as dt
import secrets as randomness
from collections.abc import Sequence
from uuid import UUID

import structlog
from tortoise.exceptions import BaseORMException
from tortoise.transactions import in_transaction

from ringback.models.api_token import ApiToken
from ringback.models.database import clock
from ringback.models.enums import Role
from ringback.models.ids import Prefix
from ringback.models.security.secret_box import hash_token
from ringback.models.services.validation import Problems, not_found, parse_id

logger = structlog.get_logger("ringback.api")

MAX_NAME = 200
#: What a bearer token begins with, so that people and scanners recognise one.
TOKEN_PREFIX = "rbk_"
#: How exactly the last use of a token is kept, in seconds: a write on every request would be a waste.
LAST_USED_SECONDS = 60


def new_bearer_token() -> str:
    """A new bearer token with 256 random bits."""
    return TOKEN_PREFIX + randomness.token_urlsafe(32)


async def create_token(
    name: str, role: Role, *, webhook_ids: Sequence[str] | None = None, expires_at: dt.datetime | None = None
) -> tuple[ApiToken, str]:
    """Create a token; returns it with its secret, which is shown this once. Raises InputRejected."""
    problems = Problems()
    name = problems.line("name", name, longest=MAX_NAME) or ""
    if webhook_ids is not None:
        problems.add("webhook_ids", f"An {role} token reaches every webhook; leave webhookIds out")
    async with in_transaction() as db:
        now = await clock.now(db)
        if expires_at is not None and expires_at <= now:
            problems.add("expires_at", "must be in the future")
        problems.refuse_if_any()
        secret = new_bearer_token()
        token = await ApiToken.create(
            name=name, role=role, token_hash=hash_token(secret), created_at=now, expires_at=expires_at, using_db=db
        )
    return token, secret


async def revoke_token(token_id: str) -> None:
    """Revoke a token; requests that bear it are refused from now on. Raises InputRejected."""
    key = parse_id(Prefix.TOKEN, token_id)
    async with in_transaction() as db:
        now = await clock.now(db)
        if not await ApiToken.filter(id=key, revoked_at=None).using_db(db).update(revoked_at=now):
            raise not_found("token", token_id)


async def authenticate(secret: str) -> ApiToken | None:
    """The token of a bearer's secret; None when it is unknown, revoked or has expired."""
    token = await ApiToken.get_or_none(token_hash=hash_token(secret), revoked_at=None)
    if token is None:
        return None
    now = await clock.now()
    if _expired(token, now):
        return None
    if token.last_used_at is None or (now - token.last_used_at).total_seconds() >= LAST_USED_SECONDS:
        try:
            await ApiToken.filter(id=token.id).update(last_used_at=now)
        except BaseORMException as error:  # a reader must not fail because the database cannot be written now
            logger.warning("cannot keep when a token was used", action="authenticate", reason=str(error))
    return token


async def is_valid(token_id: UUID) -> bool:
    """Whether a token that was authenticated before still is: neither revoked nor expired."""
    token = await ApiToken.get_or_none(id=token_id, revoked_at=None)
    return token is not None and not _expired(token, await clock.now())


def _expired(token: ApiToken, now: dt.datetime) -> bool:
    return token.expires_at is not None and token.expires_at <= now


async def ensure_admin(secret: str, name: str) -> None:
    """Make sure that this secret is an ADMIN token, for the operator's own one.

    The operator has one token of that name: a former one, which was replaced, is revoked.
    """
    mine = hash_token(secret)
    async with in_transaction() as db:
        now = await clock.now(db)
        former = ApiToken.filter(name=name, revoked_at=None).exclude(token_hash=mine).using_db(db)
        await former.update(revoked_at=now)
        if not await ApiToken.exists(token_hash=mine, using_db=db):
            await ApiToken.create(name=name, role=Role.ADMIN, token_hash=mine, created_at=now, using_db=db)
