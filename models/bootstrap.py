"""Opening the database: its Tortoise configuration, its migrations, and the registry of tracked models.

An application that lets Ringback open its database names its modules in the settings and uses `migrate()` and
`open_database()`. One that has a Tortoise configuration of its own puts `tortoise_apps()` and `sqlite_connection()` or
`postgres_connection()` into it, and uses `migrate_config()` and `open_tortoise()`, or calls `start_tracking()` after
its own `Tortoise.init()`.
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

from ringback.models import delivery_log
from ringback.models.database.backends import Database, PostgresDatabase, SqliteFile, database_of
from ringback.models.database.notifications import notifier
from ringback.models.errors import ConfigurationError
from ringback.models.settings import Settings
from ringback.models.tracking.tracked import start_tracking

CONNECTION = "default"
#: The app of Ringback's own models, and the one of yours unless their `Meta.app` says otherwise.
APP, OWN_APP = "ringback", "models"
#: The modules that hold Ringback's own tables.
MODULES = (
    "ringback.models.api_token",
    "ringback.models.declared_model",
    "ringback.models.event",
    "ringback.models.services.idempotency",
    "ringback.models.services.idempotency",
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
    """The apps of a Tortoise configuration: `ringback`, and those of your own modules.

    The app of a model of yours is what its `Meta.app` says, else "models"; a module's migrations are looked for in its
    submodule `migrations`. Raises ConfigurationError when a module has no models.
    """
    apps: dict[str, dict[str, Any]] = {
        APP: {"models": list(MODULES), "default_connection": connection, "migrations": MIGRATIONS}
    }
    for module in modules:
        for label in _labels(module):
            app = apps.setdefault(label, {"models": [], "default_connection": connection})
            app["models"].append(module)
            migrations = f"{module}.migrations"
            if not _exists(migrations):
                continue
            other = app.setdefault("migrations", migrations)
            if other != migrations:
                raise ConfigurationError(
                    f"{other} and {migrations} are both of the app {label!r}: set Meta.app in the models of one"
                )
    return apps


def select_database(settings: Settings) -> Database:
    """The database that the settings name."""
    if settings.is_embedded:
        return SqliteFile(settings.database_path)
    return PostgresDatabase(settings.database_url, settings.database_pool_size)


def tortoise_config(database: Database, modules: Iterable[str] = ()) -> dict[str, Any]:
    """The whole Tortoise configuration for a database."""
    connections = {CONNECTION: database.connection()}
    return {"connections": connections, "apps": tortoise_apps(modules), "use_tz": True, "timezone": "UTC"}


def prepare_data_dir(settings: Settings) -> None:
    """Make the data directory; raises ConfigurationError when it, or the database in it, cannot be written."""
    database = select_database(settings)
    folders = {settings.data_dir, *([database.path.parent] if isinstance(database, SqliteFile) else [])}
    for folder in folders:
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            probe = folder / f".probe-{os.getpid()}"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise ConfigurationError(
                f"cannot write to {folder} ({error.strerror}): make it writable, "
                "or set RINGBACK_DATA_DIR to another folder"
            ) from error
    if isinstance(database, SqliteFile):
        database.check_writable()


@contextlib.asynccontextmanager
async def open_database(settings: Settings) -> AsyncIterator[None]:
    """The database of the settings, open for this event loop, with its models tracked.

    Raises ConfigurationError when it cannot be opened, is older than this program and not migrated yet, or is newer.
    """
    settings.load_models()
    async with open_tortoise(tortoise_config(select_database(settings), settings.models)):
        yield


@contextlib.asynccontextmanager
async def open_tortoise(config: Mapping[str, Any]) -> AsyncIterator[None]:
    """The databases of a Tortoise configuration of your own, open for this event loop, with their models tracked.

    It is `Tortoise.init()`, `start_tracking()` and `Tortoise.close_connections()`, with the same checks as
    `open_database()`. Where a framework opens Tortoise for you, let it, with `_enable_global_fallback=True`: deliveries
    run in tasks of their own.
    """
    database, connection = _database(config)
    async with _initialised(config, everywhere=True):
        missing = set(known_migrations()) - await _applied(database, connection)
        if missing:
            raise ConfigurationError(
                f"the database {database} is older than this program (it lacks {min(missing)}): run `ringback migrate`"
            )
        start_tracking()
        yield


@contextlib.asynccontextmanager
async def share_notifications(redis_url: str) -> AsyncIterator[None]:
    """Share this process's wake-ups, while the block runs, with all that use the same (open) database and this Redis.

    An empty address shares none. Raises ConfigurationError when the driver is not installed.
    """
    if not redis_url:
        yield
        return
    try:
        from ringback.models.database.redis_notifications import relay_over_redis  # noqa: PLC0415 - an optional driver
    except ImportError as error:
        raise ConfigurationError(
            'Redis carries the wake-ups, but its driver is missing: pip install "ringback[redis]"'
        ) from error
    async with relay_over_redis(notifier, redis_url, f"ringback:{(await delivery_log.epoch()).hex}"):
        yield


async def migrate(settings: Settings) -> list[str]:
    """Bring the database up to date, under a lock; returns the names of the migrations that were applied.

    Your own models get their migrations too, or, where their module has none, the tables that are missing. Raises
    ConfigurationError when the database cannot be opened, or is newer than this program.
    """
    settings.load_models()
    prepare_data_dir(settings)
    database = select_database(settings)
    config = tortoise_config(database, settings.models)
    async with _initialised(config):
        await database.reachable(CONNECTION, settings.start_timeout_seconds)
    applied = await migrate_config(config)
    if any("migrations" not in app for app in config["apps"].values()):
        async with database.locked(), _initialised(config):
            await Tortoise.generate_schemas(safe=True)
    return applied


async def migrate_config(config: Mapping[str, Any]) -> list[str]:
    """Run the migrations of all apps of a Tortoise configuration that have some, Ringback's first, under a lock.

    Returns the names of the migrations that were applied; Ringback's are applied all or none. Raises
    ConfigurationError when the database cannot be opened, or is newer than this program.
    """
    config = dict(config)
    apps: dict[str, Any] = config["apps"]
    database, connection = _database(config)
    own = {label: app for label, app in apps.items() if "migrations" in app and label != APP}
    async with database.locked(), _initialised(config):
        await _applied(database, connection)
        async with in_transaction(connection) as db:
            applied = await _run(db, {APP: apps[APP]})
        for name in sorted({app["default_connection"] for app in own.values()}):
            there = {label: app for label, app in own.items() if app["default_connection"] == name}
            applied += await _run(get_connection(name), {**there, APP: apps[APP]} if name == connection else there)
        await delivery_log.recognise()
        return applied


async def _run(db: BaseDBAsyncClient, apps: dict[str, Any]) -> list[str]:
    executor = MigrationExecutor(db, apps)
    # Looking for what is applied must not fail: on Postgres that would be the end of the transaction.
    await executor.recorder.ensure_schema(executor._schema_editor(atomic=False))
    steps = [f"{s.migration.app_label}.{s.migration.name}" for s in await executor.plan()]
    if steps:
        await executor.migrate(direction="forward")
    return steps


def _database(config: Mapping[str, Any]) -> tuple[Database, str]:
    """The database that holds Ringback's tables, and the name of its connection."""
    if APP not in config["apps"]:
        raise ConfigurationError(
            "the Tortoise configuration lacks Ringback's models: put tortoise_apps() into its apps"
        )
    connection = config["apps"][APP]["default_connection"]
    return database_of(connection, config), connection


@contextlib.asynccontextmanager
async def _initialised(config: Mapping[str, Any], *, everywhere: bool = False) -> AsyncIterator[None]:
    await Tortoise.init(config=dict(config), _enable_global_fallback=everywhere)
    try:
        yield
    finally:
        await Tortoise.close_connections()


async def _applied(database: Database, connection: str) -> set[str]:
    """Return the migrations that the database has seen.

    Raises ConfigurationError when it cannot be read, this program does not know all of them, or an earlier commit
    applied only some of those that `0001_initial` replaces.
    """
    query = f"SELECT name FROM tortoise_migrations WHERE app = '{APP}'"
    try:
        applied = {row["name"] for row in await get_connection(connection).execute_query_dict(query)}
    except BaseORMException as error:
        if not isinstance(error, OperationalError) or not database.is_empty(error):
            raise database.cannot_open(error) from error
        applied = set()
    initial = importlib.import_module(f"{MIGRATIONS}.0001_initial")
    replaced = {name for _, name in initial.Migration.replaces}
    missing = replaced - applied
    if 0 < len(missing) < len(replaced):
        raise ConfigurationError(
            f"the database {database} is too old for this program (it lacks {min(missing)}): "
            "first run `ringback migrate` of an earlier commit that still has this migration"
        )
    unknown = sorted(applied - replaced - set(known_migrations()))
    if unknown:
        raise ConfigurationError(
            f"the database {database} is newer than this program (it has {unknown[-1]}): "
            "upgrade Ringback, or use another database"
        )
    return applied


def known_migrations() -> list[str]:
    """The names of all migrations that this program knows."""
    package = importlib.import_module(MIGRATIONS)
    return sorted(f.stem for f in Path(package.__path__[0]).glob("[0-9]*.py"))


def _labels(module: str) -> list[str]:
    """The apps of the models that a module defines, itself or in its submodules."""
    found = importlib.import_module(module)
    models = [v for v in vars(found).values() if isclass(v) and issubclass(v, Model) and not v._meta.abstract]
    own = [m for m in models if f"{m.__module__}.".startswith(f"{module}.")]
    if not own:
        raise ConfigurationError(f"the module {module} defines no Tortoise models: import them there, or name another")
    return sorted({m._meta.app or OWN_APP for m in own})


def _exists(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False
