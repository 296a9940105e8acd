"""Fixtures that all tests share: a migrated database in a temporary folder, and the really started program."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from ringback.models import db, settings
from ringback.models.settings import Settings
from tests.program import Program


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("RINGBACK_") and not name.startswith("RINGBACK_TEST_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def chosen(tmp_path: Path) -> Settings:
    """Settings with a data directory of the test's own."""
    return settings.load(data_dir=tmp_path / "data")


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with a migrated database; copying it is quicker than migrating again."""
    fresh = settings.load(data_dir=tmp_path_factory.mktemp("migrated") / "data")
    asyncio.run(db.migrate(fresh))
    return fresh.data_dir


@pytest_asyncio.fixture
async def database(chosen: Settings, migrated: Path) -> AsyncIterator[Settings]:
    """A migrated, open database with its models tracked."""
    shutil.copytree(migrated, chosen.data_dir)
    async with db.opened(chosen):
        yield chosen


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    """The whole program, started for real on a free port, with loopback deliveries allowed to its own inbox only."""
    with Program(tmp_path / "program") as started:
        yield started


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """With CI=true a skipped test is a failure: what it needs must be installed there."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    if report.skipped and os.environ.get("CI") == "true" and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.longrepr = f"skipped, which CI does not allow: {reason}"
