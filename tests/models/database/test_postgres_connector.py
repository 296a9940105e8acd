"""Postgres URLs as other tools write them, on a real server: every option works or is ignored with a warning."""

import asyncio
import os
import shutil
import socket
import ssl
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qs, quote, urlsplit

import asyncpg
import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from ringback.models import bootstrap, load_settings, migrate, open_database
from ringback.models.database.postgres_connector import Connector, get_connector
from ringback.models.database.postgres_url import parse_postgres_url
from ringback.models.database.sql import fetch_rows
from ringback.models.site_settings import SiteSettings
from tests.support import postgres
from tests.support.authority import Authority
from tests.support.servers import free_port

IGNORED_BY_ASYNCPG = {
    "channel_binding": "require", "gssencmode": "require", "keepalives": "1", "keepalives_count": "3",
    "keepalives_idle": "30", "keepalives_interval": "10", "load_balance_hosts": "random", "require_auth": "none",
    "requirepeer": "postgres", "sslcrldir": "/none", "tcp_user_timeout": "1000",
}  # fmt: skip
UNKNOWN_TO_SERVER = {"connection_limit": "5", "pgbouncer": "true", "schema": "public", "shared_buffers": "1GB"}
HONOURED = {
    "application_name": "my app", "options": "-c geqo=off", "statement_timeout": "54321", "work_mem": "9MB",
    "connect_timeout": "10", "target_session_attrs": "read-write", "sslmode": "verify-full", "sslrootcert": "system",
    "sslnegotiation": "postgres", "krbsrvname": "postgres", "gsslib": "gssapi", "passfile": "/none",
    "ssl_min_protocol_version": "TLSv1.2", "ssl_max_protocol_version": "TLSv1.3",
}  # fmt: skip


@pytest.fixture(scope="module")
def socket_server() -> Iterator[str]:
    """Yield the URL of a server that listens on a Unix socket, where `sslmode` does not matter."""
    with postgres.own() as server:
        yield server.url


@pytest_asyncio.fixture
async def url(socket_server: str) -> AsyncIterator[str]:
    """Yield the URL of a new, empty database."""
    url = await postgres.create(socket_server)
    with postgres.other_statements():
        yield url
    await postgres.drop(socket_server, url)


def with_options(url: str, options: dict[str, str]) -> str:
    separator = "&" if "?" in url else "?"
    return url + separator + "&".join(f"{name}={value.replace(' ', '%20')}" for name, value in options.items())


async def read_settings(connector: Connector, *names: str) -> list[str]:
    connection = await connector.connect()
    try:
        return [await connection.fetchval("SELECT current_setting($1)", name) for name in names]
    finally:
        await connection.close()


async def test_a_url_with_the_options_of_every_tool_starts_with_one_warning(url: str, tmp_path: Path) -> None:
    full_url = with_options(url, {**HONOURED, **IGNORED_BY_ASYNCPG, **UNKNOWN_TO_SERVER})
    settings = load_settings(database_url=full_url, data_dir=tmp_path, start_timeout_seconds=0)

    with capture_logs() as lines:
        assert await migrate(settings) == [f"ringback.{name}" for name in bootstrap.list_migrations()]
        async with open_database(settings):
            names = "'application_name', 'geqo', 'statement_timeout', 'work_mem'"
            query = f"SELECT name, setting FROM pg_settings WHERE name IN ({names}) ORDER BY name"
            rows = await fetch_rows(SiteSettings._meta.db, query)

    assert [tuple(row) for row in rows] == [
        ("application_name", "my app"), ("geqo", "off"), ("statement_timeout", "54321"), ("work_mem", "9216"),
    ]  # fmt: skip
    (line,) = lines
    assert (line["log_level"], line["event"]) == ("warning", "options of the database URL are ignored")
    assert sorted(line["options"]) == sorted([*IGNORED_BY_ASYNCPG, *UNKNOWN_TO_SERVER])
    assert line["database"] == parse_postgres_url(url).display


@pytest.mark.parametrize(
    ("options", "ignored"),
    [
        ({"options": "-c no_such_setting=1"}, ["options"]),
        ({"options": "nonsense"}, ["options"]),
        ({"work_mem": "much"}, ["work_mem"]),
        ({"replication": "database", "client_encoding": "LATIN1"}, ["client_encoding", "replication"]),
        ({"hostaddr": "192.0.2.1"}, ["hostaddr"]),
        ({"connect_timeout": "0"}, ["connect_timeout"]),
        ({"service": "none", "servicefile": "/none", "ApplicationName": "x"}, ["service", "ApplicationName"]),
        ({"ssl": "false"}, ["ssl"]),
    ],
)
async def test_an_option_that_cannot_be_used_is_ignored(url: str, options: dict[str, str], ignored: list[str]) -> None:
    connector = Connector(parse_postgres_url(with_options(url, options)))

    with capture_logs() as lines:
        assert await read_settings(connector, "client_encoding") == ["UTF8"]
        await asyncio.gather(*(read_settings(connector, "work_mem") for _ in range(4)))

    assert [line["options"] for line in lines] == [ignored]


async def test_connections_at_the_same_time_log_an_option_once(url: str) -> None:
    connector = Connector(parse_postgres_url(with_options(url, UNKNOWN_TO_SERVER)))

    with capture_logs() as lines:
        await asyncio.gather(*(read_settings(connector, "work_mem") for _ in range(8)))

    assert sorted(name for line in lines for name in line["options"]) == sorted(UNKNOWN_TO_SERVER)


@pytest.mark.parametrize("attributes", ["any", "primary", "read-write", "prefer-standby"])
async def test_the_first_host_that_answers_is_used(url: str, attributes: str) -> None:
    """One host refuses connections, and one accepts them and says nothing, for which its whole timeout is waited."""
    (folder,) = parse_qs(urlsplit(url).query)["host"]
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hosts = f"host=127.0.0.1:{free_port()},127.0.0.1:{silent.getsockname()[1]},{folder}"
        options = f"connect_timeout=0.5&target_session_attrs={attributes}&sslmode=disable"
        connector = Connector(parse_postgres_url(f"postgresql://postgres@{urlsplit(url).path}?{hosts}&{options}"))
        started = time.monotonic()

        assert await read_settings(connector, "port") == ["5432"]

        assert time.monotonic() - started >= 0.5


async def test_no_host_has_the_attributes(url: str) -> None:
    connector = Connector(parse_postgres_url(with_options(url, {"target_session_attrs": "standby"})))

    with pytest.raises(asyncpg.TargetServerAttributeNotMatched):
        await connector.connect()


async def test_a_service_names_the_server(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder,) = parse_qs(urlsplit(url).query)["host"]
    database = urlsplit(url).path.strip("/")
    file = tmp_path / "services"
    file.write_text(
        f"[rb]\nhost={folder}\ndbname={database}\nuser=postgres\n"
        "application_name=my app\noptions=-c geqo=off\nconnect_timeout=9\nchannel_binding=require\n"
    )
    monkeypatch.setenv("PGSERVICEFILE", str(file))
    settings = load_settings(database_url="postgresql:///?service=rb", data_dir=tmp_path, start_timeout_seconds=0)

    with capture_logs() as lines:
        assert await migrate(settings) != []
        assert await read_settings(get_connector("postgresql:///?service=rb"), "application_name", "geqo") == [
            "my app", "off",
        ]  # fmt: skip

    assert [line["options"] for line in lines] == [["channel_binding"]]


async def test_a_socket_in_the_authority(url: str) -> None:
    (folder,) = parse_qs(urlsplit(url).query)["host"]
    encoded = folder.replace("/", "%2F")
    connector = Connector(parse_postgres_url(f"postgres://postgres@{encoded}{urlsplit(url).path}"))

    assert await read_settings(connector, "port") == ["5432"]


async def test_a_port_without_a_host(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder,) = parse_qs(urlsplit(url).query)["host"]
    connector = Connector(parse_postgres_url(f"postgres://postgres@:5432{urlsplit(url).path}"))

    with monkeypatch.context() as environment:
        environment.setenv("PGHOST", folder)
        environment.setenv("PGPORT", "1")
        assert await read_settings(connector, "port") == ["5432"]


PASSWORD = "p@s:s/w%rd#?&= я"


class SecureServer(NamedTuple):
    """A server on 127.0.0.1 that demands TLS and a password of the user `guarded`."""

    port: int
    authority: Authority


@pytest.fixture
def secure_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SecureServer]:
    if postgres.binaries() is None:
        pytest.skip(postgres.HOW)
    port = free_port()
    monkeypatch.setenv("PGPORT", str(port))
    authority = Authority(tmp_path)
    authority.server("127.0.0.1")
    with tempfile.TemporaryDirectory(prefix="rb-tls-") as folder:
        certificate = Path(shutil.copy(tmp_path / "127.0.0.1.pem", folder))
        certificate.chmod(0o600)
        if os.geteuid() == 0:
            shutil.chown(folder, "nobody")
            shutil.chown(certificate, "nobody")
        settings = (
            "listen_addresses=127.0.0.1", f"port={port}", "ssl=on", f"ssl_cert_file={certificate}",
            f"ssl_key_file={certificate}",
        )  # fmt: skip
        with postgres.started(settings) as server:
            asyncio.run(_demand_password(server.url))
            yield SecureServer(port, authority)


async def _demand_password(url: str) -> None:
    (folder,) = parse_qs(urlsplit(url).query)["host"]
    rules = Path(folder) / "pg_hba.conf"
    rules.write_text(
        f"hostssl all guarded 127.0.0.1/32 scram-sha-256\nhost all guarded all reject\n{rules.read_text()}"
    )
    connection = await asyncpg.connect(url)
    await connection.execute(f"CREATE USER guarded PASSWORD '{PASSWORD}'")
    await connection.execute("SELECT pg_reload_conf()")
    await connection.close()


@pytest.mark.parametrize(
    "options",
    ["sslmode=require", "sslmode=verify-full&sslrootcert=CA", "sslmode=prefer", "ssl=verify-full&sslrootcert=CA"],
)
async def test_tls_and_a_percent_encoded_password(secure_server: SecureServer, options: str) -> None:
    options = options.replace("CA", str(secure_server.authority.file))
    address = f"127.0.0.1:{secure_server.port}/postgres?{options}"
    connector = Connector(parse_postgres_url(f"postgres://guarded:{quote(PASSWORD, safe='')}@{address}"))

    connection = await connector.connect()

    query = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
    assert await connection.fetchval(query) is True
    await connection.close()


async def test_a_password_file(secure_server: SecureServer, tmp_path: Path) -> None:
    file = tmp_path / "pgpass"
    file.write_text(f"127.0.0.1:{secure_server.port}:postgres:guarded:{PASSWORD}\n")
    file.chmod(0o600)
    options = f"passfile={file}&sslmode=require"
    url = f"postgres://guarded@127.0.0.1:{secure_server.port}/postgres?{options}"

    assert await read_settings(Connector(parse_postgres_url(url)), "port") == [str(secure_server.port)]


async def test_the_certificates_of_the_system_decide(
    secure_server: SecureServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"postgres://postgres@127.0.0.1:{secure_server.port}/postgres?sslrootcert=system&sslmode=require"
    connector = Connector(parse_postgres_url(url))
    with pytest.raises(ssl.SSLCertVerificationError):
        await connector.connect()

    monkeypatch.setenv("SSL_CERT_FILE", str(secure_server.authority.file))
    assert await read_settings(connector, "ssl") == ["on"]


@pytest.mark.parametrize(("revoked", "is_refused"), [([], False), (["127.0.0.1"], True)])
async def test_a_certificate_that_is_revoked(
    secure_server: SecureServer, monkeypatch: pytest.MonkeyPatch, revoked: list[str], is_refused: bool
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(secure_server.authority.file))
    options = f"sslrootcert=system&sslcrl={secure_server.authority.revoke(revoked)}"
    connector = Connector(parse_postgres_url(f"postgres://postgres@127.0.0.1:{secure_server.port}/postgres?{options}"))

    if is_refused:
        with pytest.raises(ssl.SSLCertVerificationError, match="certificate revoked"):
            await connector.connect()
    else:
        assert await read_settings(connector, "ssl") == ["on"]


async def test_a_list_of_revoked_certificates_that_is_missing(secure_server: SecureServer) -> None:
    url = f"postgres://postgres@127.0.0.1:{secure_server.port}/postgres?sslrootcert=system&sslcrl=/none"

    with pytest.raises(FileNotFoundError):
        await Connector(parse_postgres_url(url)).connect()


@pytest.mark.parametrize(
    ("option", "version"), [("ssl_max_protocol_version", "TLSv1.2"), ("ssl_min_protocol_version", "TLSv1.3")]
)
async def test_the_version_of_tls_with_the_certificates_of_the_system(
    secure_server: SecureServer, monkeypatch: pytest.MonkeyPatch, option: str, version: str
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(secure_server.authority.file))
    url = f"postgres://postgres@127.0.0.1:{secure_server.port}/postgres?sslrootcert=system&{option}={version}"

    connection = await Connector(parse_postgres_url(url)).connect()

    query = "SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
    assert await connection.fetchval(query) == version
    await connection.close()


async def test_a_wrong_password_is_not_tried_on_the_next_host(secure_server: SecureServer) -> None:
    host = f"127.0.0.1:{secure_server.port}"
    connector = Connector(parse_postgres_url(f"postgres://guarded:x@{host},127.0.0.1:{free_port()}/postgres"))

    with pytest.raises(asyncpg.InvalidPasswordError):
        await connector.connect()
