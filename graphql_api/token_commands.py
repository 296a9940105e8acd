"""The commands `ringback token create`, `list` and `revoke`, on a database that exists."""

import contextlib
import datetime as dt
from collections.abc import AsyncIterator, Sequence

from ringback.models import bootstrap
from ringback.models.api_token import ApiToken
from ringback.models.enums import Role
from ringback.models.errors import ConfigurationError, InputRejected
from ringback.models.ids import Prefix, encode
from ringback.models.services import api_tokens
from ringback.models.settings import Settings

_HEADINGS = ("ID", "NAME", "ROLE", "CREATED", "LAST USED", "EXPIRES", "REVOKED")


async def create_token(settings: Settings, name: str, role: Role, expires_in_days: int | None) -> str:
    """Create a token and return its secret. Raises ConfigurationError and InputRejected."""
    expires_at: dt.datetime | None = None
    if expires_in_days is not None:
        expires_at = dt.datetime.now(dt.UTC) + dt.timedelta(days=expires_in_days)
    async with _open_existing_database(settings):
        _, secret = await api_tokens.create_token(name, role, expires_at=expires_at)
    return secret


async def list_tokens(settings: Settings) -> str:
    """Return a table of all tokens, oldest first. Raises ConfigurationError."""
    async with _open_existing_database(settings):
        tokens = await ApiToken.all().order_by("id")
    return _format_table([_HEADINGS, *map(_list_cells, tokens)])


async def revoke_token(settings: Settings, token_id: str) -> None:
    """Revoke a token. Raises ConfigurationError."""
    async with _open_existing_database(settings):
        try:
            await api_tokens.revoke_token(token_id)
        except InputRejected as error:
            raise ConfigurationError(f"{error} `ringback token list` prints the ids of all tokens.") from error


@contextlib.asynccontextmanager
async def _open_existing_database(settings: Settings) -> AsyncIterator[None]:
    bootstrap.check_database_exists(settings)
    async with bootstrap.open_database(settings):
        yield


def _list_cells(token: ApiToken) -> Sequence[str]:
    times = (token.created_at, token.last_used_at, token.expires_at, token.revoked_at)
    return (encode(Prefix.TOKEN, token.id), token.name, str(token.role), *map(_format_time, times))


def _format_time(time: dt.datetime | None) -> str:
    return "-" if time is None else f"{time.astimezone(dt.UTC):%Y-%m-%dT%H:%M:%SZ}"


def _format_table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    return "\n".join(lines)
