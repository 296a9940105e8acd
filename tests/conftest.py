"""Fixtures that all tests share: a migrated database in a temporary folder, and the really started program."""

import asyncio
import gc
import importlib
import os
import pkgutil
import shutil
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import pytest_asyncio
import structlog

import ringback.graphql_api
import ringback.jobs
import ringback.models
from ringback.models import bootstrap, settings
from ringback.models.settings import Settings
from tests.support import postgres
from tests.support.program import Program


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("RINGBACK_") and not name.startswith("RINGBACK_TEST_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def without_umask() -> Iterator[None]:
    """Let new files of this process, and of those that it starts, have all the permissions that are asked for."""
    umask = os.umask(0)
    yield
    os.umask(umask)


@pytest.fixture
def chosen(tmp_path: Path) -> Settings:
    """Settings with a data directory of the test's own."""
    return settings.load_settings(data_dir=tmp_path / "data")


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with a migrated database; copying it is quicker than migrating again."""
    fresh = settings.load_settings(data_dir=tmp_path_factory.mktemp("migrated") / "data")
    asyncio.run(bootstrap.migrate(fresh))
    return fresh.data_dir


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The URL of a real server, on which databases may be made."""
    with postgres.server_url() as url:
        yield url


@pytest.fixture(scope="session")
def migrated_postgres(postgres_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a migrated database, to make others from."""
    url = postgres.migrated(postgres_server, tmp_path_factory.mktemp("postgres"))
    yield url
    asyncio.run(postgres.drop_copies(url))
    asyncio.run(postgres.drop(postgres_server, url))


@pytest.fixture
def database_kind() -> str:
    """The kind of database that this test runs on: SQLite, unless it is marked `every_database`."""
    return "sqlite"


@pytest.fixture
def template(database_kind: str, request: pytest.FixtureRequest) -> str:
    """What the test's database is a copy of: a data directory, or the URL of a Postgres database."""
    return str(request.getfixturevalue("migrated" if database_kind == "sqlite" else "migrated_postgres"))


@pytest_asyncio.fixture
async def database(database_kind: str, chosen: Settings, template: str) -> AsyncIterator[Settings]:
    """A migrated, open database with its models tracked."""
    if database_kind == "sqlite":
        shutil.copytree(template, chosen.data_dir)
        async with bootstrap.open_database(chosen):
            yield chosen
        return
    async with postgres.copied(template) as url:
        on_postgres = settings.load_settings(data_dir=chosen.data_dir, database_url=url)
        async with bootstrap.open_database(on_postgres):
            yield on_postgres


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--databases` runs what is not marked on these kinds."""
    parser.addoption("--databases", default="", help="sqlite, postgres or sqlite,postgres")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test on the kinds of database that it is marked with."""
    if "database_kind" not in metafunc.fixturenames:
        return
    asked = metafunc.config.getoption("--databases")
    if metafunc.definition.get_closest_marker("on_postgres"):
        metafunc.parametrize("database_kind", ["postgres"])
    elif metafunc.definition.get_closest_marker("every_database"):
        metafunc.parametrize("database_kind", ["sqlite", "postgres"])
    elif asked:
        metafunc.parametrize("database_kind", asked.split(","))


@pytest.fixture(scope="session")
def shared_program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """The program that `program` empties; it is started once in each test process."""
    with Program(tmp_path_factory.mktemp("shared") / "program") as started:
        yield started


@pytest.fixture
def program(shared_program: Program, request: pytest.FixtureRequest) -> Iterator[Program]:
    """The started program with an empty database; deliveries reach nothing but its own inbox.

    Tests share it. A test that stops or breaks it uses `own_program`, and one that makes it log an error says so by the
    marker `logs_errors`.
    """
    shared_program.empty()
    yield shared_program
    errors = [line for line in shared_program.log().splitlines() if '"level":"error"' in line or "Traceback" in line]
    assert errors == [] or request.node.get_closest_marker("logs_errors")


@pytest.fixture
def own_program(tmp_path: Path, migrated: Path) -> Iterator[Program]:
    """A program that was started for this test alone: to be stopped, or broken."""
    with Program(tmp_path / "program", migrated=migrated) as started:
        yield started


def pytest_configure() -> None:
    """Log plain tracebacks. The colourful ones with all local variables take up to a second of CPU time each."""
    structlog.dev.ConsoleRenderer.get_active().exception_formatter = structlog.dev.plain_traceback


def pytest_collection_finish() -> None:
    """Exempt what was imported and collected from garbage collection: looking through it takes half a second a time."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Iterator[None]:
    """Import the packages under the tracer of coverage, then collect the tests without it."""
    if session.config.pluginmanager.hasplugin("_cov"):
        for package in (ringback.models, ringback.jobs, ringback.graphql_api):
            for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
                if not module.name.endswith("__main__"):
                    importlib.import_module(module.name)
    with _without_tracer(session.config):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Iterator[None]:
    """Set up fixtures without the tracer of coverage, under which Python code takes twice as long and longer."""
    with _without_tracer(item.config):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Run a test without the tracer of coverage if its marker says so.

    The marker that pytest-cov has for this, `no_cover`, has no effect in the workers of xdist.
    """
    if item.get_closest_marker("measures_cpu") is None:
        return (yield)
    with _without_tracer(item.config):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    """Tear down fixtures without the tracer of coverage."""
    with _without_tracer(item.config):
        return (yield)


@contextmanager
def _without_tracer(config: pytest.Config) -> Iterator[None]:
    if not config.pluginmanager.hasplugin("_cov"):
        yield
        return
    tracer, thread_tracer = sys.gettrace(), threading.gettrace()
    sys.settrace(None)
    threading.settrace(None)
    try:
        yield
    finally:
        sys.settrace(tracer)
        threading.settrace(thread_tracer)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """With CI=true a skipped test is a failure: what it needs must be installed there."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    if report.skipped and os.environ.get("CI") == "true" and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.longrepr = f"skipped, which CI does not allow: {reason}"
