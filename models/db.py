"""Opening the database: its Tortoise configuration, its migrations, and the registry of tracked models.

Applications that use Ringback as a library put `tortoise_apps()` into their own Tortoise configuration, open the
database with the engine `ringback.models.sqlite`, and call `connect()` after `Tortoise.init`.
"""

import contextlib
import os
import sqlite3
from collections.abc import AsyncIterator, Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from ringback.models.errors import ConfigurationError
from ringback.models.settings import Settings
from ringback.models.tracking import connect
from tortoise import Tortoise
from tortoise.connection import get_connection
from tortoise.exceptions import OperationalError, TransactionManagementError
from tortoise.migrations.api import migrate as run_migrations
from tortoise.migrations.executor import MigrationExecutor
from tortoise.migrations.recorder import MigrationRecorder

CONNECTION = "default"
#: The modules that hold Ringback's own tables.
MODULES = (
    "ringback.models.access",
    "ringback.models.event",
    "ringback.models.inbox",
    "ringback.models.lead",
    "ringback.models.log",
    "ringback.models.order",
    "ringback.models.site",
    "ringback.models.webhook",
)
MIGRATIONS = "ringback.models.migrations"
#: How long a migration run by another process is waited for, in seconds.
MIGRATION_LOCK_SECONDS = 120


def tortoise_apps(modules: Iterable[str] = ()) -> dict[str, dict[str, Any]]:
    """The apps of a Tortoise configuration: `ringback`, and `models` for the modules with your own tracked models."""
    apps: dict[str, dict[str, Any]] = {
        "ringback": {"models": list(MODULES), "default_connection": CONNECTION, "migrations": MIGRATIONS}
    }
    modules = list(modules)
    if modules:
        own: dict[str, Any] = {"models": modules, "default_connection": CONNECTION}
        migrations = f"{modules[0]}.migrations"
        if _exists(migrations):
            own["migrations"] = migrations
        apps["models"] = own
    return apps


def tortoise_config(path: Path, modules: Iterable[str] = ()) -> dict[str, Any]:
    """The whole Tortoise configuration for a database file."""
    engine = {"engine": "ringback.models.sqlite", "credentials": {"file_path": str(path)}}
    return {"connections": {CONNECTION: engine}, "apps": tortoise_apps(modules), "use_tz": True, "timezone": "UTC"}


def prepare_data_dir(settings: Settings) -> None:
    """Make the data directory; raises ConfigurationError when it cannot be written."""
    for folder in (settings.data_dir, settings.database_path.parent):
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            probe = folder / f".probe-{os.getpid()}"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise ConfigurationError(
                f"cannot write to {folder} ({error.strerror}): make it writable, or set RINGBACK_DATA_DIR to another folder"
            ) from error


@contextlib.asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[None]:
    """The database, open for this event loop, with its models tracked.

    Raises ConfigurationError when it cannot be opened, or is newer than this program.
    """
    settings.load_models()
    config = tortoise_config(settings.database_path, settings.models)
    try:
        await Tortoise.init(config=config, _enable_global_fallback=True)
        await _check_version(settings)
        connect()
        yield
    finally:
        await Tortoise.close_connections()


async def migrate(settings: Settings) -> list[str]:
    """Bring the database up to date, under a lock; returns the names of the migrations that were applied.

    Your own models get their migrations too, or, where their module has none, their missing tables.
    """
    settings.load_models()
    prepare_data_dir(settings)
    lock = FileLock(f"{settings.database_path}.migrate.lock", timeout=MIGRATION_LOCK_SECONDS)
    try:
        with lock:
            return await _migrate(settings)
    except Timeout as error:
        raise ConfigurationError(
            f"another process has been migrating {settings.database_path} for {MIGRATION_LOCK_SECONDS} s: wait for it, or end it"
        ) from error


async def _migrate(settings: Settings) -> list[str]:
    config = tortoise_config(settings.database_path, settings.models)
    migrated = {label: app for label, app in config["apps"].items() if "migrations" in app}
    try:
        await Tortoise.init(config=config, _enable_global_fallback=False)
        await _check_version(settings)
        executor = MigrationExecutor(get_connection(CONNECTION), migrated)
        steps = [f"{s.migration.app_label}.{s.migration.name}" for s in await executor.plan()]
        if steps:
            await run_migrations(config=config, app_labels=list(migrated), direction="forward")
        if len(migrated) < len(config["apps"]):
            await Tortoise.generate_schemas(safe=True)
        return steps
    finally:
        await Tortoise.close_connections()


async def _check_version(settings: Settings) -> None:
    """Raises ConfigurationError when the file is no database, or has seen migrations that this program does not know."""
    path = settings.database_path
    try:
        applied = await MigrationRecorder(get_connection(CONNECTION)).applied_migrations()
    except (OperationalError, TransactionManagementError, sqlite3.DatabaseError) as error:
        if "no such table" in str(error):
            return
        raise ConfigurationError(
            f"cannot open the database {path} ({error}): name another file, or restore it"
        ) from error
    known = set(pending_and_applied())
    unknown = sorted(key.name for key in applied if key.app_label == "ringback" and key.name not in known)
    if unknown:
        raise ConfigurationError(
            f"the database {path} is newer than this program (it has {unknown[-1]}): upgrade Ringback, or use another database"
        )


def pending_and_applied() -> list[str]:
    """The names of all migrations that this program knows."""
    import ringback.models.migrations as package

    return sorted(f.stem for f in Path(package.__path__[0]).glob("[0-9]*.py"))


def _exists(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False
