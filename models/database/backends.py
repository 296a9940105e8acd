"""The supported databases, a SQLite file or a Postgres database: how to open, await and lock each for migration."""

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import structlog
from filelock import AsyncFileLock, Timeout
from tortoise.backends.base.client import BaseDBAsyncClient
from tortoise.connection import get_connection
from tortoise.exceptions import DBConnectionError, OperationalError

from ringback.models.database.postgres_url import parse_postgres_url
from ringback.models.errors import ConfigurationError
from ringback.models.private_files import create_private_file, make_private

logger = structlog.get_logger("ringback.database")

#: Seconds to wait for a migration that another process runs.
MIGRATION_LOCK_SECONDS = 120.0
#: Seconds between two attempts to reach the database at the start.
RETRY_SECONDS = 2.0
#: Ends of the names of SQLite's files and of the lock files beside them.
_SUFFIXES = ("", "-wal", "-shm", "-journal", ".migrate.lock", ".worker.lock")
#: Key of the advisory lock for migrations on Postgres: "ringback" as a number.
_LOCK_KEY = int.from_bytes(b"ringback", "big", signed=True)
#: Postgres's SQLSTATE for a table that does not exist.
_UNDEFINED_TABLE = "42P01"


def sqlite_connection(path: Path | str) -> dict[str, Any]:
    """Return a connection for a Tortoise configuration: a SQLite file, opened with Ringback's client."""
    return {"engine": "ringback.models.sqlite", "credentials": {"file_path": str(path)}}


def postgres_connection(url: str, **options: Any) -> dict[str, Any]:
    """Return a connection for a Tortoise configuration: a Postgres database, opened with Ringback's client.

    Options are `pool_size`, `idle_transaction_seconds` and the arguments of asyncpg's `create_pool()`. Postgres rolls a
    transaction back that sends no statement for `idle_transaction_seconds` (0: never), and so frees its locks. A limit
    of the URL, the role or the database counts instead, and so does a shorter one of the server.
    """
    return {"engine": "ringback.models.postgres", "credentials": {"dsn": url, **options}}


@dataclass(frozen=True, slots=True)
class SqliteFile:
    """A SQLite database. Its text form is the path."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    def connection(self) -> dict[str, Any]:
        """Return the connection for a Tortoise configuration."""
        return sqlite_connection(self.path)

    @contextlib.asynccontextmanager
    async def lock_migrations(self) -> AsyncIterator[None]:
        """Keep other processes from migrating during the block, with a lock file beside the database.

        A missing database is created, which only its owner can read: SQLite would apply the umask.

        Raises ConfigurationError if another process migrates for more than MIGRATION_LOCK_SECONDS.
        """
        lock = AsyncFileLock(f"{self.path}.migrate.lock", timeout=MIGRATION_LOCK_SECONDS, mode=0o600)
        try:
            await lock.acquire()
            create_private_file(self.path)
        except Timeout as error:
            raise _build_lock_timeout_error(self) from error
        except OSError as error:
            raise ConfigurationError(
                f"Cannot write to {self.path.parent} ({error.strerror}). Make it writable."
            ) from error
        try:
            yield
        finally:
            await lock.release()

    async def wait_until_reachable(self, connection: str, timeout_seconds: float) -> None:
        """Return at once: a file needs no server, and a missing one is created."""

    async def check_encoding(self, db: BaseDBAsyncClient) -> None:
        """Return at once: a SQLite database that Ringback creates stores all of Unicode."""

    def is_missing_table(self, error: OperationalError) -> bool:
        """Return whether a statement failed because its table does not exist. SQLite has no code for that."""
        return "no such table" in str(error)

    def build_open_error(self, error: Exception) -> ConfigurationError:
        """Return the error for a database that cannot be opened, with the reason and what to do."""
        return ConfigurationError(
            f"Cannot open the database {self} ({error}). "
            "Set RINGBACK_DATABASE_URL to another file, or restore this one."
        )

    def make_private(self) -> None:
        """Keep other users out of the files that exist."""
        path = self.path.resolve()
        for suffix in _SUFFIXES:
            make_private(path.with_name(path.name + suffix))

    def check_writable(self) -> None:
        """Raise ConfigurationError if the file exists and is not writable."""
        if self.path.exists() and not os.access(self.path, os.W_OK):
            raise ConfigurationError(
                f"Cannot write to {self.path}. Make it writable, or set RINGBACK_DATABASE_URL to another file."
            )


@dataclass(frozen=True, slots=True)
class PostgresDatabase:
    """A database on a Postgres server. Its text form is the URL without user and password."""

    url: str
    pool_size: int | None = None
    idle_transaction_seconds: int = 0

    def __str__(self) -> str:
        return parse_postgres_url(self.url).display

    def connection(self) -> dict[str, Any]:
        """Return the connection for a Tortoise configuration."""
        options = {"pool_size": self.pool_size} if self.pool_size else {}
        return postgres_connection(self.url, idle_transaction_seconds=self.idle_transaction_seconds, **options)

    @contextlib.asynccontextmanager
    async def lock_migrations(self) -> AsyncIterator[None]:
        """Keep other processes from migrating during the block, with an advisory lock on a session of its own.

        Raises ConfigurationError if another process migrates for more than MIGRATION_LOCK_SECONDS.
        """
        from ringback.models.database.postgres import hold_advisory_lock  # noqa: PLC0415 - imports an optional dependency

        async with hold_advisory_lock(self.url, _LOCK_KEY, MIGRATION_LOCK_SECONDS) as is_locked:
            if not is_locked:
                raise _build_lock_timeout_error(self)
            yield

    async def wait_until_reachable(self, connection: str, timeout_seconds: float) -> None:
        """Retry until the database answers, and log each failure.

        Raises ConfigurationError after the timeout, or at once if the server rejects the URL's user or database.
        """
        from ringback.models.database.postgres import REFUSED  # noqa: PLC0415 - imports an optional dependency

        deadline = time.monotonic() + timeout_seconds
        while True:
            try:
                await get_connection(connection).execute_query("SELECT 1")
                return
            except DBConnectionError as error:
                remaining_seconds = deadline - time.monotonic()
                if remaining_seconds <= 0 or isinstance(error.__cause__, REFUSED):
                    raise self.build_open_error(error) from error
                logger.warning(
                    "cannot reach the database, retrying", action="start", database=str(self), reason=str(error),
                    again_in_seconds=RETRY_SECONDS, for_seconds=round(remaining_seconds),
                )  # fmt: skip
                await asyncio.sleep(min(RETRY_SECONDS, remaining_seconds))

    async def check_encoding(self, db: BaseDBAsyncClient) -> None:
        """Raise ConfigurationError if the database's encoding is not UTF-8, since others lack characters."""
        (row,) = await db.execute_query_dict("SELECT current_setting('server_encoding') AS encoding")
        if row["encoding"] != "UTF8":
            raise ConfigurationError(
                f"The database {self} has the encoding {row['encoding']}, but Ringback needs UTF8. "
                "Create one with CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0."
            )

    def is_missing_table(self, error: OperationalError) -> bool:
        """Return whether a statement failed because its table does not exist."""
        return getattr(error.__cause__, "sqlstate", None) == _UNDEFINED_TABLE

    def build_open_error(self, error: Exception) -> ConfigurationError:
        """Return the error for a database that cannot be opened, with the reason and what to do."""
        return ConfigurationError(
            f"Cannot open the database {self} ({error}). Start it, or set RINGBACK_DATABASE_URL to the right one."
        )


Database: TypeAlias = SqliteFile | PostgresDatabase


def find_database(connection: str, config: Mapping[str, Any]) -> Database:
    """Return the database of a connection in a Tortoise configuration.

    Raises ConfigurationError if the connection does not use Ringback's client.
    """
    options = config["connections"][connection]
    credentials = options.get("credentials", {}) if isinstance(options, Mapping) else {}
    if "dsn" in credentials:
        return PostgresDatabase(credentials["dsn"])
    if "file_path" in credentials:
        return SqliteFile(Path(credentials["file_path"]))
    raise ConfigurationError(
        f"The connection {connection!r} does not use Ringback's client. "
        "Build it with sqlite_connection(path) or postgres_connection(url)."
    )


def _build_lock_timeout_error(database: Database) -> ConfigurationError:
    return ConfigurationError(
        f"Another process has been migrating {database} for {MIGRATION_LOCK_SECONDS:g} s. Wait for it, or stop it."
    )
