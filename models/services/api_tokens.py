"""Create, revoke and authenticate API tokens."""

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

MAX_NAME_CHARS = 200
#: Start of every bearer token, by which secret scanners recognise one.
TOKEN_PREFIX = "rbk_"
#: Resolution of `last_used_at` in seconds, so that few requests need a write.
LAST_USED_SECONDS = 60


def new_bearer_token() -> str:
    """Return a new bearer token with 256 random bits."""
    return TOKEN_PREFIX + randomness.token_urlsafe(32)


async def create_token(
    name: str, role: Role, *, webhook_ids: Sequence[str] | None = None, expires_at: dt.datetime | None = None
) -> tuple[ApiToken, str]:
    """Create a token. Return it with its secret, which cannot be read again. Raises InputRejected."""
    problems = Problems()
    name = problems.check_line("name", name, max_chars=MAX_NAME_CHARS) or ""
    if webhook_ids is not None:
        problems.add("webhook_ids", f"{role} tokens reach all webhooks. Leave webhookIds out.")
    async with in_transaction() as db:
        now = await clock.now(db)
        if expires_at is not None and expires_at <= now:
            problems.add("expires_at", "expiresAt is in the past. Enter a time in the future.")
        problems.raise_if_any()
        secret = new_bearer_token()
        token = await ApiToken.create(
            name=name, role=role, token_hash=hash_token(secret), created_at=now, expires_at=expires_at, using_db=db
        )
    return token, secret


async def revoke_token(token_id: str) -> None:
    """Revoke a token, so that further requests with it are refused. Raises InputRejected."""
    key = parse_id(Prefix.TOKEN, token_id)
    async with in_transaction() as db:
        now = await clock.now(db)
        if not await ApiToken.filter(id=key, revoked_at=None).using_db(db).update(revoked_at=now):
            raise not_found("token", token_id)


async def authenticate(secret: str) -> ApiToken | None:
    """Return the token with this secret. None if it is unknown, revoked or expired."""
    token = await ApiToken.get_or_none(token_hash=hash_token(secret), revoked_at=None)
    if token is None:
        return None
    now = await clock.now()
    if _is_expired(token, now):
        return None
    if _is_last_use_stale(token, now):
        try:
            await ApiToken.filter(id=token.id).update(last_used_at=now)
        except BaseORMException as error:
            # A query must succeed even if the database cannot be written.
            logger.warning("cannot store the last use of a token", action="authenticate", reason=str(error))
    return token


async def is_valid(token_id: UUID) -> bool:
    """Return whether a token exists and is neither revoked nor expired."""
    token = await ApiToken.get_or_none(id=token_id, revoked_at=None)
    return token is not None and not _is_expired(token, await clock.now())


async def ensure_admin(secret: str, name: str) -> None:
    """Create an ADMIN token with this secret unless there is one, and revoke other tokens of this name.

    A token that was revoked stays revoked.
    """
    token_hash = hash_token(secret)
    async with in_transaction() as db:
        now = await clock.now(db)
        replaced = ApiToken.filter(name=name, revoked_at=None).exclude(token_hash=token_hash).using_db(db)
        await replaced.update(revoked_at=now)
        if not await ApiToken.exists(token_hash=token_hash, using_db=db):
            await ApiToken.create(name=name, role=Role.ADMIN, token_hash=token_hash, created_at=now, using_db=db)


def _is_expired(token: ApiToken, now: dt.datetime) -> bool:
    return token.expires_at is not None and token.expires_at <= now


def _is_last_use_stale(token: ApiToken, now: dt.datetime) -> bool:
    return token.last_used_at is None or (now - token.last_used_at).total_seconds() >= LAST_USED_SECONDS
