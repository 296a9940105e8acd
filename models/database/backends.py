"""The two kinds of database, as far as opening and migrating them differs: a SQLite file and a Postgres server."""

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import structlog
from filelock import AsyncFileLock, Timeout
from tortoise.connection import get_connection
from tortoise.exceptions import DBConnectionError, OperationalError

from ringback.models.errors import ConfigurationError

logger = structlog.get_logger("ringback.database")

#: How long a migration run by another process is waited for, in seconds.
MIGRATION_LOCK_SECONDS = 120.0
#: How often a database that is away is asked again at the start, in seconds.
AGAIN_SECONDS = 2.0
#: The advisory lock under which a Postgres database is migrated: "ringback", as a number.
_LOCK_KEY = int.from_bytes(b"ringback", "big", signed=True)


def sqlite_connection(path: Path | str) -> dict[str, Any]:
    """The connection of a Tortoise configuration: a database file, opened with Ringback's own client."""
    return {"engine": "ringback.models.sqlite", "credentials": {"file_path": str(path)}}


def postgres_connection(url: str, **options: Any) -> dict[str, Any]:
    """The connection of a Tortoise configuration: a Postgres database, opened with Ringback's own client.

    Options are `pool_size`, and whatever asyncpg's `create_pool()` takes.
    """
    return {"engine": "ringback.models.postgres", "credentials": {"dsn": url, **options}}


@dataclass(frozen=True, slots=True)
class SqliteFile:
    """A database in a file."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    def connection(self) -> dict[str, Any]:
        """The connection of a Tortoise configuration."""
        return sqlite_connection(self.path)

    @contextlib.asynccontextmanager
    async def locked(self) -> AsyncIterator[None]:
        """Let nobody else migrate it during the block, by a lock file beside it.

        Raises ConfigurationError when somebody does so for too long.
        """
        lock = AsyncFileLock(f"{self.path}.migrate.lock", timeout=MIGRATION_LOCK_SECONDS)
        try:
            await lock.acquire()
        except Timeout as error:
            raise _locked_too_long(self) from error
        except OSError as error:
            raise ConfigurationError(
                f"cannot write to {self.path.parent} ({error.strerror}): make it writable"
            ) from error
        try:
            yield
        finally:
            await lock.release()

    async def reachable(self, connection: str, seconds: float) -> None:
        """It is there, or will be made."""

    def is_empty(self, error: OperationalError) -> bool:
        """Whether this is the error of a database without tables, by SQLite's words: it has no codes."""
        return "no such table" in str(error)

    def cannot_open(self, error: Exception) -> ConfigurationError:
        """The error that says what to do."""
        return ConfigurationError(
            f"cannot open the database {self} ({error}): set RINGBACK_DATABASE_URL to another file, or restore this one"
        )

    def check_writable(self) -> None:
        """Raises ConfigurationError when the file is there and cannot be written."""
        if self.path.exists() and not os.access(self.path, os.W_OK):
            raise ConfigurationError(
                f"cannot write to {self.path}: make it writable, or set RINGBACK_DATABASE_URL to another file"
            )


@dataclass(frozen=True, slots=True)
class PostgresDatabase:
    """A database of a Postgres server; its text form may be shown, and holds no password."""

    url: str
    pool_size: int | None = None

    def __str__(self) -> str:
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"

    def connection(self) -> dict[str, Any]:
        """The connection of a Tortoise configuration."""
        return postgres_connection(self.url, **({"pool_size": self.pool_size} if self.pool_size else {}))

    @contextlib.asynccontextmanager
    async def locked(self) -> AsyncIterator[None]:
        """Let nobody else migrate it during the block, by an advisory lock of a session, which ends with it.

        Raises ConfigurationError when somebody does so for too long.
        """
        import asyncpg  # noqa: PLC0415 - a driver that only those have who need it

        from ringback.models.database.postgres import CONNECT_SECONDS, translate_errors  # noqa: PLC0415

        async with translate_errors():
            session = await asyncpg.connect(self.url, timeout=CONNECT_SECONDS)
        try:
            try:
                await session.execute(f"SET lock_timeout = {int(MIGRATION_LOCK_SECONDS * 1000)}")
                await session.execute(f"SELECT pg_advisory_lock({_LOCK_KEY})", timeout=2 * MIGRATION_LOCK_SECONDS)
            except asyncpg.LockNotAvailableError as error:
                raise _locked_too_long(self) from error
            yield
        finally:
            session.terminate()

    async def reachable(self, connection: str, seconds: float) -> None:
        """Ask until it answers, at most so long, with a line in the log each time that it does not.

        Raises ConfigurationError when the time is up, or when the server refuses this URL: waiting does not help.
        """
        from ringback.models.database.postgres import REFUSED  # noqa: PLC0415 - needs a driver that only those have who use it

        until = time.monotonic() + seconds
        while True:
            try:
                await get_connection(connection).execute_query("SELECT 1")
                return
            except DBConnectionError as error:
                left = until - time.monotonic()
                if left <= 0 or isinstance(error.__cause__, REFUSED):
                    raise self.cannot_open(error) from error
                logger.warning(
                    "the database does not answer", action="start", database=str(self), reason=str(error),
                    again_in_seconds=AGAIN_SECONDS, for_seconds=round(left),
                )  # fmt: skip
                await asyncio.sleep(min(AGAIN_SECONDS, left))

    def is_empty(self, error: OperationalError) -> bool:
        """Whether this is the error of a database without tables, by Postgres's code for a table that is missing."""
        return getattr(error.__cause__, "sqlstate", None) == "42P01"

    def cannot_open(self, error: Exception) -> ConfigurationError:
        """The error that says what to do."""
        return ConfigurationError(
            f"cannot open the database {self} ({error}): start it, or set RINGBACK_DATABASE_URL to the right one"
        )


Database: TypeAlias = SqliteFile | PostgresDatabase


def database_of(connection: str, config: Mapping[str, Any]) -> Database:
    """The database of a Tortoise configuration's connection; raises ConfigurationError when it is none of ours."""
    found = config["connections"][connection]
    credentials = found.get("credentials", {}) if isinstance(found, Mapping) else {}
    if "dsn" in credentials:
        return PostgresDatabase(credentials["dsn"])
    if "file_path" in credentials:
        return SqliteFile(Path(credentials["file_path"]))
    raise ConfigurationError(
        f"the connection {connection!r} is none of Ringback's: write it with sqlite_connection(path) or "
        "postgres_connection(url)"
    )


def _locked_too_long(database: Database) -> ConfigurationError:
    return ConfigurationError(
        f"another process has been migrating {database} for {MIGRATION_LOCK_SECONDS:g} s: wait for it, or end it"
    )
