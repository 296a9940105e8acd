"""API tokens: their secret is shown once, and counts until it is revoked or expires."""

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


async def test_a_secret_is_kept_as_a_hash_only(database: object) -> None:
    token, secret = await api_tokens.create_token(" CI ", Role.ADMIN)
    assert secret.startswith("rbk_") and len(secret) == len("rbk_") + 43
    stored = await ApiToken.filter(id=token.id).values()
    assert stored[0]["token_hash"] == hash_token(secret)
    assert secret not in str(stored)
    assert (token.name, token.expires_at, token.last_used_at, token.revoked_at) == ("CI", None, None, None)


async def test_who_a_secret_is(database: object) -> None:
    token, secret = await api_tokens.create_token("CI", Role.ADMIN, expires_at=await clock.now() + HOUR)
    found = await api_tokens.authenticate(secret)
    assert found is not None and found.id == token.id
    assert await api_tokens.is_valid(token.id)
    for other in (secret[:-1], secret.upper(), secret + " ", "", hash_token(secret)):
        assert await api_tokens.authenticate(other) is None
    assert not await api_tokens.is_valid(new_key())


@pytest.mark.parametrize("how", ["revoked", "expired"])
async def test_a_token_that_has_ended_is_nobody(database: object, how: str) -> None:
    token, secret = await api_tokens.create_token("CI", Role.ADMIN, expires_at=await clock.now() + HOUR)
    if how == "revoked":
        await api_tokens.revoke_token(encode(Prefix.TOKEN, token.id))
        with pytest.raises(InputRejected, match="There is no token with the id tok_"):
            await api_tokens.revoke_token(encode(Prefix.TOKEN, token.id))
    else:
        await ApiToken.filter(id=token.id).update(expires_at=await clock.now())
    assert await api_tokens.authenticate(secret) is None
    assert not await api_tokens.is_valid(token.id)


async def test_the_last_use_is_kept_to_the_minute(database: object) -> None:
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


async def test_a_token_cannot_be_born_expired(database: object) -> None:
    with pytest.raises(InputRejected, match="must be in the future"):
        await api_tokens.create_token("CI", Role.ADMIN, expires_at=await clock.now())
    assert await ApiToken.all().count() == 0


async def test_the_operator_s_token_is_made_once_and_stays_revoked(database: object) -> None:
    for _ in range(2):
        await api_tokens.ensure_admin("the operator's own secret", "operator")
    ((token),) = await ApiToken.all()
    assert (token.name, token.role) == ("operator", Role.ADMIN)
    await api_tokens.revoke_token(encode(Prefix.TOKEN, token.id))
    await api_tokens.ensure_admin("the operator's own secret", "operator")
    assert await api_tokens.authenticate("the operator's own secret") is None


async def test_a_replaced_token_of_the_operator_is_revoked(database: object) -> None:
    await api_tokens.ensure_admin("rbk_former-token-of-the-operator", "RINGBACK_ADMIN_TOKEN")
    await api_tokens.ensure_admin("rbk_former-token-of-the-operator", "RINGBACK_ADMIN_TOKEN")
    assert await ApiToken.all().count() == 1
    await api_tokens.ensure_admin("rbk_present-token-of-the-operator", "RINGBACK_ADMIN_TOKEN")
    assert await api_tokens.authenticate("rbk_former-token-of-the-operator") is None
    assert await api_tokens.authenticate("rbk_present-token-of-the-operator") is not None


async def test_a_database_that_cannot_be_written_spares_readers(
    database: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, secret = await api_tokens.create_token("CI", Role.ADMIN)

    async def full(*_: object) -> None:
        raise OperationalError("database or disk is full")

    monkeypatch.setattr(SqliteClient, "execute_query", refusing_writes(SqliteClient.execute_query, full))
    found = await api_tokens.authenticate(secret)
    assert found is not None and found.last_used_at is None


def refusing_writes(execute: Any, refuse: Any) -> Any:
    async def execute_query(self: SqliteClient, query: str, values: Any = None) -> Any:
        return await (execute(self, query, values) if query.startswith("SELECT") else refuse())

    return execute_query
