"""Opens and migrates the database: the Tortoise configuration, the migrations, and the start of tracking.

If Ringback opens the database, name the modules of your models in the settings, and use `migrate()` and
`open_database()`. If your application has a Tortoise configuration, add `tortoise_apps()` and `sqlite_connection()` or
`postgres_connection()` to it, and use `migrate_config()` and `open_tortoise()`, or call `start_tracking()` after your
own `Tortoise.init()`.
"""

import contextlib
import importlib
import os
from collections.abc import AsyncIterator, Iterable, Mapping
from importlib.util import find_spec
from inspect import isclass
from pathlib import Path
from typing import Any

from tortoise import Tortoise
from tortoise.backends.base.client import BaseDBAsyncClient
from tortoise.connection import get_connection
from tortoise.exceptions import BaseORMException, OperationalError
from tortoise.migrations.executor import MigrationExecutor
from tortoise.models import Model
from tortoise.transactions import in_transaction

from ringback.models import declared_model, delivery_log
from ringback.models.database.backends import Database, PostgresDatabase, SqliteFile, find_database
from ringback.models.database.notifications import notifier
from ringback.models.errors import ConfigurationError
from ringback.models.private_files import create_private_folder, make_private
from ringback.models.settings import Settings
from ringback.models.tracking.tracked import start_tracking

CONNECTION = "default"
#: The Tortoise app of Ringback's models.
APP = "ringback"
#: The default Tortoise app of the application's models.
DEFAULT_APP = "models"
#: The modules of Ringback's models.
MODULES = (
    "ringback.models.api_token",
    "ringback.models.declared_model",
    "ringback.models.event",
    "ringback.models.inbox",
    "ringback.models.lead",
    "ringback.models.delivery_log",
    "ringback.models.customer_order",
    "ringback.models.site_settings",
    "ringback.models.webhook",
    "ringback.models.worker",
)
MIGRATIONS = "ringback.models.migrations"


def tortoise_apps(modules: Iterable[str] = (), *, connection: str = CONNECTION) -> dict[str, dict[str, Any]]:
    """Return the apps of a Tortoise configuration: `ringback`, and those of your own modules.

    Your models belong to the app of their `Meta.app`, by default "models". A module's migrations are in its submodule
    `migrations`. Raises ConfigurationError if a module defines no models, or if two modules of an app have migrations.
    """
    apps: dict[str, dict[str, Any]] = {
        APP: {"models": list(MODULES), "default_connection": connection, "migrations": MIGRATIONS}
    }
    for module in modules:
        for label in _find_app_labels(module):
            app = apps.setdefault(label, {"models": [], "default_connection": connection})
            app["models"].append(module)
            migrations = f"{module}.migrations"
            if not _module_exists(migrations):
                continue
            other = app.setdefault("migrations", migrations)
            if other != migrations:
                raise ConfigurationError(
                    f"{other} and {migrations} both belong to the app {label!r}. Set Meta.app in the models of one."
                )
    return apps


def select_database(settings: Settings, *, idle_transaction_seconds: int = 0) -> Database:
    """Return the database of the settings, with the option of `postgres_connection()`."""
    if settings.is_embedded:
        return SqliteFile(settings.database_path)
    return PostgresDatabase(settings.database_url, settings.database_pool_size, idle_transaction_seconds)


def describe_database(settings: Settings) -> str:
    """Return where the data of the settings is, for people: a directory, or a database without its password."""
    if not settings.database_url:
        return f"the data directory {settings.data_dir.absolute()}"
    if settings.is_embedded:
        return f"the database {settings.database_path.absolute()}"
    return f"the database {select_database(settings)}"


def check_database_exists(settings: Settings) -> None:
    """Raise ConfigurationError if the database is a SQLite file that does not exist. Opening it would create it.

    `open_database()` does the same for a database on a server.
    """
    if not settings.is_embedded or settings.database_path.exists():
        return
    if settings.database_url:
        raise ConfigurationError(
            f"There is no database {settings.database_path.absolute()}. "
            "Set RINGBACK_DATABASE_URL to the database of the server, or create one with `ringback migrate`."
        )
    raise ConfigurationError(
        f"There is no database in {settings.data_dir.absolute()}. Name the data directory of the server "
        "with --data-dir or RINGBACK_DATA_DIR, or create a database with `ringback migrate`."
    )


def tortoise_config(database: Database, modules: Iterable[str] = ()) -> dict[str, Any]:
    """Return the complete Tortoise configuration for a database, with the models of your own modules."""
    connections = {CONNECTION: database.connection()}
    return {"connections": connections, "apps": tortoise_apps(modules), "use_tz": True, "timezone": "UTC"}


def prepare_data_dir(settings: Settings) -> None:
    """Create the data directory, and keep other users out of it and the database file.

    Raises ConfigurationError if one of them is not writable.
    """
    database = select_database(settings)
    folders = {settings.data_dir}
    if isinstance(database, SqliteFile):
        folders.add(database.path.parent)
    for folder in folders:
        _create_writable_folder(folder)
    make_private(settings.data_dir.resolve())
    if isinstance(database, SqliteFile):
        database.make_private()
        database.check_writable()


def _create_writable_folder(folder: Path) -> None:
    try:
        create_private_folder(folder)
        probe = folder / f".probe-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except FileExistsError as error:
        raise ConfigurationError(f"{folder} is a file. Set RINGBACK_DATA_DIR to a folder.") from error
    except OSError as error:
        raise ConfigurationError(
            f"Cannot write to {folder} ({error.strerror}). "
            "Make it writable, or set RINGBACK_DATA_DIR to another folder."
        ) from error


@contextlib.asynccontextmanager
async def open_database(settings: Settings, *, idle_transaction_seconds: int = 0) -> AsyncIterator[None]:
    """Open the database of the settings for this event loop and track its models, while the block runs.

    `idle_transaction_seconds` is the option of `postgres_connection()`. Raises ConfigurationError if the database
    cannot be opened, lacks migrations, or is newer than this program.
    """
    settings.load_models()
    database = select_database(settings, idle_transaction_seconds=idle_transaction_seconds)
    async with open_tortoise(tortoise_config(database, settings.models)):
        yield


@contextlib.asynccontextmanager
async def open_tortoise(config: Mapping[str, Any]) -> AsyncIterator[None]:
    """Open the databases of your Tortoise configuration for this event loop and track their models.

    Equals `Tortoise.init()`, `start_tracking()` and `Tortoise.close_connections()`, with the checks and errors of
    `open_database()`. If a framework opens Tortoise for you, use that with `_enable_global_fallback=True`, because
    deliveries run in tasks of their own.
    """
    database, connection = _find_ringback_database(config)
    async with _init_tortoise(config, global_fallback=True):
        applied = await _read_applied(database, connection)
        if not applied:
            raise ConfigurationError(
                f"The database {database} has no tables of Ringback. Create them with `ringback migrate`, "
                "or migrate_config() if the configuration is your own, or use another database."
            )
        missing = set(list_migrations()) - applied
        if missing:
            raise ConfigurationError(
                f"The database {database} is older than this program (it lacks {min(missing)}). "
                "Run `ringback migrate`, or call migrate_config() if the configuration is your own."
            )
        start_tracking()
        yield


@contextlib.asynccontextmanager
async def share_notifications(redis_url: str) -> AsyncIterator[None]:
    """Share notifications with the other processes of this database over Redis, while the block runs.

    The database must be open. Does nothing if the URL is empty. Raises ConfigurationError if the driver is missing.
    """
    if not redis_url:
        yield
        return
    try:
        from ringback.models.database.redis_notifications import relay_over_redis  # noqa: PLC0415 - imports an optional dependency
    except ImportError as error:
        raise ConfigurationError(
            "Redis carries notifications (RINGBACK_REDIS_URL or RINGBACK_BROKER_URL), but its driver is missing. "
            "Run: pip install '.[redis]'"
        ) from error
    epoch = await delivery_log.read_epoch()
    async with relay_over_redis(notifier, redis_url, channel=f"ringback:{epoch.hex}"):
        yield


async def migrate(settings: Settings) -> list[str]:
    """Migrate the database of the settings under a lock. Return the names of the applied migrations.

    Runs the migrations of your own models too. Modules without migrations get their missing tables. Raises
    ConfigurationError if the database cannot be opened, or is newer than this program.
    """
    settings.load_models()
    prepare_data_dir(settings)
    database = select_database(settings)
    config = tortoise_config(database, settings.models)
    async with _init_tortoise(config):
        await database.wait_until_reachable(CONNECTION, settings.start_timeout_seconds)
    applied = await migrate_config(config)
    if any("migrations" not in app for app in config["apps"].values()):
        async with database.lock_migrations(), _init_tortoise(config):
            await Tortoise.generate_schemas(safe=True)
    return applied


async def migrate_config(config: Mapping[str, Any]) -> list[str]:
    """Run the migrations of all apps of a Tortoise configuration under a lock, Ringback's first.

    Ringback's migrations are applied all or none. Returns the names of the applied migrations. Raises
    ConfigurationError if the database cannot be opened, is newer than this program, or is new and not in UTF-8.
    """
    config = dict(config)
    apps: dict[str, Any] = config["apps"]
    database, connection = _find_ringback_database(config)
    ringback_app = {APP: apps[APP]}
    apps_by_connection: dict[str, dict[str, Any]] = {}
    for label, app in apps.items():
        if "migrations" in app and label != APP:
            apps_by_connection.setdefault(app["default_connection"], {})[label] = app
    if connection in apps_by_connection:
        apps_by_connection[connection] |= ringback_app  # the migrations of other apps may depend on Ringback's
    async with database.lock_migrations(), _init_tortoise(config):
        is_new = not await _read_applied(database, connection)
        async with in_transaction(connection) as db:
            if is_new:
                await database.check_encoding(db)
            applied = await _run_migrations(db, ringback_app)
        for name, other_apps in sorted(apps_by_connection.items()):
            applied += await _run_migrations(get_connection(name), other_apps)
        await declared_model.fill_template_fields()
        await delivery_log.detect_move()
        return applied


async def _run_migrations(db: BaseDBAsyncClient, apps: dict[str, Any]) -> list[str]:
    executor = MigrationExecutor(db, apps)
    # Create the table of applied migrations first: on Postgres, a failed SELECT from it would end the transaction.
    await executor.recorder.ensure_schema(executor._schema_editor(atomic=False))
    names = [f"{step.migration.app_label}.{step.migration.name}" for step in await executor.plan()]
    if names:
        await executor.migrate(direction="forward")
    return names


def _find_ringback_database(config: Mapping[str, Any]) -> tuple[Database, str]:
    """Return the database that holds Ringback's tables, and the name of its connection."""
    if APP not in config["apps"]:
        raise ConfigurationError(
            "The Tortoise configuration lacks Ringback's models. Put tortoise_apps() into its apps."
        )
    connection = config["apps"][APP]["default_connection"]
    return find_database(connection, config), connection


@contextlib.asynccontextmanager
async def _init_tortoise(config: Mapping[str, Any], *, global_fallback: bool = False) -> AsyncIterator[None]:
    """Initialize Tortoise for the block. With `global_fallback`, other tasks can use its connections too."""
    await Tortoise.init(config=dict(config), _enable_global_fallback=global_fallback)
    try:
        yield
    finally:
        await Tortoise.close_connections()


async def _read_applied(database: Database, connection: str) -> set[str]:
    """Return the names of Ringback's applied migrations.

    Raises ConfigurationError if the database cannot be read, or if `_check_applied` does.
    """
    query = f"SELECT name FROM tortoise_migrations WHERE app = '{APP}'"
    try:
        rows = await get_connection(connection).execute_query_dict(query)
    except BaseORMException as error:
        if not isinstance(error, OperationalError) or not database.is_missing_table(error):
            raise database.build_open_error(error) from error
        rows = []  # a new database
    applied = {row["name"] for row in rows}
    _check_applied(database, applied)
    return applied


def _check_applied(database: Database, applied: set[str]) -> None:
    """Raise ConfigurationError for a database that this program can neither use nor migrate.

    Such a database has a migration that this program does not know, or only some of those that `0001_initial` replaces.
    """
    initial = importlib.import_module(f"{MIGRATIONS}.0001_initial")
    replaced = {name for _, name in initial.Migration.replaces}
    missing = replaced - applied
    if 0 < len(missing) < len(replaced):
        raise ConfigurationError(
            f"The database {database} is too old for this program (it lacks {min(missing)}). "
            "Check out an earlier commit that still has this migration, run `ringback migrate` there, then upgrade."
        )
    unknown = sorted(applied - replaced - set(list_migrations()))
    if unknown:
        raise ConfigurationError(
            f"The database {database} is newer than this program (it has {unknown[-1]}). "
            "Upgrade Ringback, or use another database."
        )


def list_migrations() -> list[str]:
    """Return the names of all migrations of this program, in their order."""
    package = importlib.import_module(MIGRATIONS)
    return sorted(file.stem for file in Path(package.__path__[0]).glob("[0-9]*.py"))


def _find_app_labels(module: str) -> list[str]:
    """Return the apps of the models that a module contains and defines, itself or in its submodules."""
    labels = set()
    for value in vars(importlib.import_module(module)).values():
        is_model = isclass(value) and issubclass(value, Model) and not value._meta.abstract
        if is_model and f"{value.__module__}.".startswith(f"{module}."):
            labels.add(value._meta.app or DEFAULT_APP)
    if not labels:
        raise ConfigurationError(
            f"The module {module} defines no Tortoise models. Import them there, or name another module."
        )
    return sorted(labels)


def _module_exists(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False
