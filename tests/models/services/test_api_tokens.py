"""API tokens: a secret authenticates until its token is revoked or expires."""

import datetime as dt
from typing import Any

import pytest
from tortoise.exceptions import OperationalError

from ringback.models.api_token import ApiToken
from ringback.models.database import clock
from ringback.models.database.sqlite import SqliteClient
from ringback.models.enums import Role
from ringback.models.errors import InputRejected
from ringback.models.ids import Prefix, encode, new_key
from ringback.models.security.secret_box import hash_token
from ringback.models.services import api_tokens

HOUR = dt.timedelta(hours=1)


async def test_only_the_hash_of_a_secret_is_stored(database: object) -> None:
    token, secret = await api_tokens.create_token(" CI ", Role.ADMIN)
    assert secret.startswith("rbk_") and len(secret) == len("rbk_") + 43
    stored = await ApiToken.filter(id=token.id).values()
    assert stored[0]["token_hash"] == hash_token(secret)
    assert secret not in str(stored)
    assert (token.name, token.expires_at, token.last_used_at, token.revoked_at) == ("CI", None, None, None)


async def test_a_secret_authenticates_as_its_token(database: object) -> None:
    token, secret = await api_tokens.create_token("CI", Role.ADMIN, expires_at=await clock.now() + HOUR)
    authenticated = await api_tokens.authenticate(secret)
    assert authenticated is not None and authenticated.id == token.id
    assert await api_tokens.is_valid(token.id)
    for other in (secret[:-1], secret.upper(), secret + " ", "", hash_token(secret)):
        assert await api_tokens.authenticate(other) is None
    assert not await api_tokens.is_valid(new_key())


@pytest.mark.parametrize("end", ["revoked", "expired"])
async def test_a_revoked_or_expired_token_does_not_authenticate(database: object, end: str) -> None:
    token, secret = await api_tokens.create_token("CI", Role.ADMIN, expires_at=await clock.now() + HOUR)
    if end == "revoked":
        await api_tokens.revoke_token(encode(Prefix.TOKEN, token.id))
        with pytest.raises(InputRejected, match="There is no token with the id tok_"):
            await api_tokens.revoke_token(encode(Prefix.TOKEN, token.id))
    else:
        await ApiToken.filter(id=token.id).update(expires_at=await clock.now())
    assert await api_tokens.authenticate(secret) is None
    assert not await api_tokens.is_valid(token.id)


async def test_the_last_use_is_stored_once_a_minute(database: object) -> None:
    token, secret = await api_tokens.create_token("CI", Role.ADMIN)

    async def last_use() -> dt.datetime | None:
        await api_tokens.authenticate(secret)
        return (await ApiToken.get(id=token.id)).last_used_at

    first = await last_use()
    assert first is not None
    assert await last_use() == first
    await ApiToken.filter(id=token.id).update(last_used_at=first - dt.timedelta(seconds=61))
    renewed = await last_use()
    assert renewed is not None and renewed >= first


async def test_a_token_cannot_be_created_expired(database: object) -> None:
    with pytest.raises(InputRejected, match="expiresAt is in the past"):
        await api_tokens.create_token("CI", Role.ADMIN, expires_at=await clock.now())
    assert await ApiToken.all().count() == 0


async def test_the_operators_token_is_created_once_and_stays_revoked(database: object) -> None:
    for _ in range(2):
        await api_tokens.ensure_admin("the operator's own secret", "operator")
    ((token),) = await ApiToken.all()
    assert (token.name, token.role) == ("operator", Role.ADMIN)
    await api_tokens.revoke_token(encode(Prefix.TOKEN, token.id))
    await api_tokens.ensure_admin("the operator's own secret", "operator")
    assert await api_tokens.authenticate("the operator's own secret") is None


async def test_replacing_the_operators_token_revokes_it(database: object) -> None:
    await api_tokens.ensure_admin("rbk_former-token-of-the-operator", "RINGBACK_ADMIN_TOKEN")
    await api_tokens.ensure_admin("rbk_former-token-of-the-operator", "RINGBACK_ADMIN_TOKEN")
    assert await ApiToken.all().count() == 1
    await api_tokens.ensure_admin("rbk_present-token-of-the-operator", "RINGBACK_ADMIN_TOKEN")
    assert await api_tokens.authenticate("rbk_former-token-of-the-operator") is None
    assert await api_tokens.authenticate("rbk_present-token-of-the-operator") is not None


async def test_authentication_succeeds_if_the_last_use_cannot_be_stored(
    database: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, secret = await api_tokens.create_token("CI", Role.ADMIN)

    async def raise_disk_full(*_: object) -> None:
        raise OperationalError("database or disk is full")

    monkeypatch.setattr(SqliteClient, "execute_query", with_failing_writes(SqliteClient.execute_query, raise_disk_full))
    token = await api_tokens.authenticate(secret)
    assert token is not None and token.last_used_at is None


def with_failing_writes(execute: Any, fail: Any) -> Any:
    async def execute_query(self: SqliteClient, query: str, values: Any = None) -> Any:
        return await (execute(self, query, values) if query.startswith("SELECT") else fail())

    return execute_query
