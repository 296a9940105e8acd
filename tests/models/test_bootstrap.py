"""Tests of opening and migrating SQLite databases: new, current, older, newer and broken files."""

import asyncio
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tortoise import Tortoise
from tortoise.connection import get_connection
from tortoise.migrations.autodetector import MigrationAutodetector
from tortoise.transactions import in_transaction

from ringback.models import (
    ConfigurationError,
    Settings,
    bootstrap,
    load_settings,
    migrate,
    migrate_config,
    open_database,
    open_tortoise,
    sqlite_connection,
    start_tracking,
    tortoise_apps,
)
from ringback.models.database import backends
from ringback.models.database.backends import SqliteFile
from ringback.models.database.sqlite import SqliteClient
from ringback.models.delivery_log import Installation
from ringback.models.site_settings import SiteSettings
from tests.support.recorded import MODELS, changes, watch
from tests.support.shop import Branch

NAMES = [f"ringback.{name}" for name in bootstrap.list_migrations()]
SCHEMA = "SELECT type, name, tbl_name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%' ORDER BY type, name"


@contextmanager
def open_sqlite(path: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        yield connection
    finally:
        connection.close()


def read_schema(path: Path) -> list[Any]:
    with open_sqlite(path) as connection:
        return connection.execute(SCHEMA).fetchall()


async def test_an_empty_database_is_migrated_once(chosen: Settings) -> None:
    assert await migrate(chosen) == NAMES
    before = read_schema(chosen.database_path)
    assert await migrate(chosen) == []
    assert read_schema(chosen.database_path) == before
    async with open_database(chosen):
        assert (await SiteSettings.get()).track_leads is False
        assert (await Installation.get()).epoch.version == 7
    assert oct(chosen.data_dir.stat().st_mode & 0o777) == "0o700"


MIGRATE = """
import asyncio, sys
from ringback.models import load_settings, migrate
print(*asyncio.run(migrate(load_settings(data_dir=sys.argv[1], models=("tests.support.shop",)))))
"""


async def test_three_processes_migrate_at_once(tmp_path: Path) -> None:
    command = (sys.executable, "-c", MIGRATE, str(tmp_path))
    workers = [
        await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(3)
    ]
    applied_by_worker = []
    for worker in workers:
        printed, errors = await worker.communicate()
        assert (worker.returncode, errors) == (0, b"")
        applied_by_worker.append(printed.decode().split())
    assert sorted(applied_by_worker) == [[], [], NAMES]
    with open_sqlite(tmp_path / "ringback.db") as connection:
        assert connection.execute("SELECT COUNT(*) FROM ringback_installation").fetchall() == [(1,)]


async def test_two_tasks_migrate_at_once(chosen: Settings) -> None:
    applied = await asyncio.gather(migrate(chosen), migrate(chosen))
    assert sorted(applied) == [[], NAMES]


async def test_the_lock_is_released_after_a_failure(chosen: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*args: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(bootstrap, "_run_migrations", fail)
    with pytest.raises(ZeroDivisionError):
        await migrate(chosen)
    monkeypatch.undo()
    assert await migrate(chosen) == NAMES


async def test_a_migration_of_another_process_that_does_not_end(
    chosen: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    from filelock import FileLock

    monkeypatch.setattr(backends, "MIGRATION_LOCK_SECONDS", 0.1)
    chosen.data_dir.mkdir()
    sentence = r"^Another process has been migrating .* for 0\.1 s\. Wait for it"
    with FileLock(f"{chosen.database_path}.migrate.lock"), pytest.raises(ConfigurationError, match=sentence):
        await migrate(chosen)
    assert not chosen.database_path.exists()


@pytest.mark.measures_cpu
@pytest.mark.parametrize("failing_statement", range(0, 24, 4))
async def test_migrations_are_applied_all_or_none(
    chosen: Settings, failing_statement: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crash at any of these statements leaves a database that the next start can migrate."""
    from ringback.models.database.sqlite import SqliteTransaction

    original = SqliteTransaction.execute_query
    statements_before_crash = failing_statement

    async def crash(self: Any, query: str, values: Any = None) -> Any:
        nonlocal statements_before_crash
        statements_before_crash -= 1
        if statements_before_crash < 0:
            raise ZeroDivisionError
        return await original(self, query, values)

    monkeypatch.setattr(SqliteTransaction, "execute_query", crash)
    with pytest.raises(ZeroDivisionError):
        await migrate(chosen)
    monkeypatch.undo()
    assert read_schema(chosen.database_path) == []
    assert await migrate(chosen) == NAMES


async def test_the_migrations_match_the_models(chosen: Settings) -> None:
    config = bootstrap.tortoise_config(bootstrap.select_database(chosen))
    await migrate(chosen)
    await Tortoise.init(config=config)
    detector = MigrationAutodetector(Tortoise.apps, {"ringback": config["apps"]["ringback"]})
    assert [op for writer in await detector.changes() for op in writer.operations] == []
    await Tortoise.close_connections()


async def test_no_description_holds_a_semicolon(chosen: Settings) -> None:
    """Tortoise writes descriptions into the SQL of a migration, which it splits at semicolons."""
    await migrate(chosen)
    async with open_database(chosen):
        for model in Tortoise.apps["ringback"].values():
            descriptions = [model._meta.table_description, *(f.description for f in model._meta.fields_map.values())]
            assert [text for text in descriptions if text and ";" in text] == [], model.__name__


async def test_migrating_creates_the_same_tables_as_generating(chosen: Settings, tmp_path: Path) -> None:
    await migrate(chosen)
    config = bootstrap.tortoise_config(SqliteFile(tmp_path / "generated.db"))
    await Tortoise.init(config=config)
    await Tortoise.generate_schemas()
    await Tortoise.close_connections()

    def read_columns(path: Path) -> dict[str, Any]:
        with open_sqlite(path) as connection:
            tables = [
                name for kind, name, _, _ in read_schema(path) if kind == "table" and name != "tortoise_migrations"
            ]
            return {
                f"{pragma} {table}": sorted(
                    row[1:] if pragma == "table_info" else row[2:]
                    for row in connection.execute(f"PRAGMA {pragma}({table})")
                )
                for table in tables
                for pragma in ("table_info", "foreign_key_list")
            }

    assert read_columns(chosen.database_path) == read_columns(tmp_path / "generated.db")


async def test_tables_of_other_models_are_added_beside_ringbacks(chosen: Settings) -> None:
    await migrate(chosen)
    before = read_schema(chosen.database_path)
    with_shop = load_settings(data_dir=chosen.data_dir, models=MODELS)
    assert await migrate(with_shop) == []
    added = [row for row in read_schema(chosen.database_path) if row not in before]
    assert [row for row in before if row not in read_schema(chosen.database_path)] == []
    tables = {"bolt", "branch", "diary", "maker", "manual", "part", "product", "product_diary"}
    assert {row[1] for row in added if row[0] == "table"} == tables == {row[2] for row in added}
    async with open_database(with_shop):
        await watch("branch")
        await Branch.create(town="Riga")
        assert [c[1] for c in await changes()] == ["created"]
    assert await migrate(with_shop) == []
    async with open_database(with_shop):
        assert await Branch.all().count() == 1


async def test_a_newer_database_is_refused(chosen: Settings) -> None:
    await migrate(chosen)
    with open_sqlite(chosen.database_path) as connection:
        connection.execute("INSERT INTO tortoise_migrations (app, name, applied_at) VALUES ('ringback', '0099_later', 'x')")  # fmt: skip  # noqa: E501
    sentence = (
        f"The database {chosen.database_path} is newer than this program (it has 0099_later). "
        "Upgrade Ringback, or use another database."
    )
    for attempt in (migrate(chosen), open_and_fail(chosen)):
        with pytest.raises(ConfigurationError) as caught:
            await attempt
        assert str(caught.value) == sentence


async def open_and_fail(settings: Settings) -> None:
    async with open_database(settings):
        raise AssertionError("opened")


async def test_a_database_without_tables_is_refused(chosen: Settings) -> None:
    chosen.data_dir.mkdir()
    with pytest.raises(ConfigurationError) as caught:
        await open_and_fail(chosen)
    assert str(caught.value) == (
        f"The database {chosen.database_path} has no tables of Ringback. "
        "Create them with `ringback migrate`, or migrate_config() if the configuration is your own, "
        "or use another database."
    )


async def test_an_older_database_is_refused(chosen: Settings) -> None:
    await migrate(chosen)
    with open_sqlite(chosen.database_path) as connection:
        connection.execute("DELETE FROM tortoise_migrations WHERE name = '0016_workers'")
    with pytest.raises(
        ConfigurationError, match=r"is older than this program \(it lacks 0016_workers\)\. Run `ringback migrate`, or "
    ):
        await open_and_fail(chosen)


async def test_a_file_that_is_not_a_database(chosen: Settings) -> None:
    chosen.data_dir.mkdir()
    chosen.database_path.write_text("dear diary, " * 1000)
    for attempt in (migrate(chosen), open_and_fail(chosen)):
        with pytest.raises(ConfigurationError) as caught:
            await attempt
        assert str(caught.value).startswith(f"Cannot open the database {chosen.database_path} (")
        assert "file is not a database" in str(caught.value)
        assert "\n" not in str(caught.value)
    assert chosen.database_path.read_text().startswith("dear diary")


async def test_a_data_dir_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    with pytest.raises(ConfigurationError) as caught:
        await migrate(load_settings(data_dir=tmp_path / "data"))

    assert str(caught.value) == f"{tmp_path / 'data'} is a file. Set RINGBACK_DATA_DIR to a folder."


UNPRIVILEGED = """
import asyncio, os, sys
from ringback.models import ConfigurationError, load_settings, migrate
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
async def main():
    chosen = load_settings(data_dir=sys.argv[1])
    await migrate(chosen)
try:
    asyncio.run(main())
except ConfigurationError as error:
    print(error)
"""


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """Yield a folder that other users can reach, unlike pytest's temporary folders."""
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)


def migrate_unprivileged(data_dir: Path) -> str:
    """Migrate as an ordinary user, even if the tests run as root. Return the printed error, without warnings."""
    process = subprocess.run([sys.executable, "-c", UNPRIVILEGED, str(data_dir)], capture_output=True, text=True)
    assert (process.returncode, process.stderr) == (0, "")
    return process.stdout.strip().splitlines()[-1]


def test_a_data_dir_that_cannot_be_written(open_folder: Path) -> None:
    data = open_folder / "data"
    data.mkdir(mode=0o555)
    for folder in (data, data / "inner"):
        assert migrate_unprivileged(folder) == (
            f"Cannot write to {folder} (Permission denied). Make it writable, "
            "or set RINGBACK_DATA_DIR to another folder."
        )
    assert list(data.iterdir()) == []
    data.chmod(0o755)


def test_a_database_that_cannot_be_written(open_folder: Path) -> None:
    data = open_folder / "data"
    data.mkdir(mode=0o777)
    data.chmod(0o777)
    (data / "ringback.db").touch(mode=0o444)

    assert migrate_unprivileged(data) == (
        f"Cannot write to {data / 'ringback.db'}. Make it writable, or set RINGBACK_DATABASE_URL to another file."
    )


async def test_an_application_with_its_own_tortoise_configuration(tmp_path: Path) -> None:
    """The application uses an app label and a connection name of its own."""
    config = {
        "connections": {"main": sqlite_connection(tmp_path / "app.db")},
        "apps": {
            **tortoise_apps(connection="main"),
            "shop": {"models": ["tests.support.shop"], "default_connection": "main"},
        },
        "use_tz": True,
    }
    assert await migrate_config(config) == NAMES
    assert await migrate_config(config) == []
    async with open_tortoise(config):
        await Tortoise.generate_schemas()
        await watch("branch")
        async with in_transaction():
            await Branch.create(town="Riga")
        assert isinstance(get_connection("main"), SqliteClient)
    await Tortoise.init(config=config)
    start_tracking()
    await Branch.filter(town="Riga").update(staff=2)
    assert [c[1] for c in await changes()] == ["created", "updated"]
    await Tortoise.close_connections()


async def test_configurations_that_ringback_cannot_use(tmp_path: Path) -> None:
    shop = {"shop": {"models": ["tests.support.shop"], "default_connection": "default"}}
    url = {"default": f"sqlite://{tmp_path}/x.db"}

    for config, sentence in [
        ({"connections": url, "apps": shop}, r"Put tortoise_apps\(\) into its apps\.$"),
        (
            {"connections": url, "apps": {**tortoise_apps(), **shop}},
            r"^The connection 'default' does not use Ringback's client\. Build it with sqlite_connection\(path\) or ",
        ),
    ]:
        with pytest.raises(ConfigurationError, match=sentence):
            await migrate_config(config)
        with pytest.raises(ConfigurationError, match=sentence):
            async with open_tortoise(config):
                raise AssertionError("opened")

    assert list(tmp_path.iterdir()) == []


def test_the_apps_of_your_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model_source = "from tortoise import fields\nfrom tortoise.models import Model\nclass {0}(Model):\n    id = fields.IntField(primary_key=True)\n"  # fmt: skip  # noqa: E501
    for name, source in {
        "rb_plain": model_source.format("A"),
        "rb_labelled": model_source.format("B") + "    class Meta:\n        app = 'garage'\n",
        "rb_package": "from rb_package.inner import C\nfrom rb_plain import A\n",
        "rb_second": model_source.format("D"),
        "rb_empty": "from rb_plain import A\n",
    }.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(source)
    (tmp_path / "rb_package" / "inner.py").write_text(
        model_source.format("C") + "    class Meta:\n        app = 'pack'\n"
    )
    for name in ("rb_labelled", "rb_plain", "rb_second"):
        (tmp_path / name / "migrations").mkdir()
        (tmp_path / name / "migrations" / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    apps = tortoise_apps(["rb_plain", "rb_labelled", "rb_package"])
    del apps["ringback"]
    assert apps == {
        "models": {"models": ["rb_plain"], "default_connection": "default", "migrations": "rb_plain.migrations"},
        "garage": {"models": ["rb_labelled"], "default_connection": "default", "migrations": "rb_labelled.migrations"},
        "pack": {"models": ["rb_package"], "default_connection": "default"},
    }
    with pytest.raises(ConfigurationError, match="^rb_plain.migrations and rb_second.migrations both belong to the app 'models'. Set Meta.app"):  # fmt: skip  # noqa: E501
        tortoise_apps(["rb_plain", "rb_second"])
    with pytest.raises(ConfigurationError, match="^The module rb_empty defines no Tortoise models"):
        tortoise_apps(["rb_empty"])
    for name in list(sys.modules):
        if name.startswith("rb_"):
            del sys.modules[name]
