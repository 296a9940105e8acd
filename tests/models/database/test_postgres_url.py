"""Tests of Postgres URLs as libpq and other tools write them. What becomes of them is tested on a real server."""

from pathlib import Path
from urllib.parse import quote, urlencode

import pytest
from asyncpg.connect_utils import _parse_connect_dsn_and_args  # type: ignore[attr-defined]  # missing in the stubs
from hypothesis import given
from hypothesis import strategies as st

from ringback.models.database.postgres_url import Host, parse_postgres_url


@pytest.mark.parametrize(
    ("url", "hosts", "database", "dsn"),
    [
        ("postgres://me:pw@db:5433/rb", [("db", 5433)], "rb", "postgresql://me:pw@/rb"),
        ("postgresql://db/rb", [("db", None)], "rb", "postgresql:///rb"),
        ("postgres://me:p%40s%2Fs%3A%25@db/my%20db", [("db", None)], "my db", "postgresql://me:p%40s%2Fs%3A%25@/my%20db"),
        ("postgres://me:p@ss[1]@db/rb", [("db", None)], "rb", "postgresql://me:p%40ss%5B1%5D@/rb"),
        ("postgres://h1:1,h2:2,h3/rb", [("h1", 1), ("h2", 2), ("h3", None)], "rb", "postgresql:///rb"),
        ("postgres://[::1]:1,[fe80::2%25eth0]/rb", [("::1", 1), ("fe80::2%eth0", None)], "rb", "postgresql:///rb"),
        ("postgres:///rb?host=/var/run/postgresql", [("/var/run/postgresql", None)], "rb", "postgresql:///rb"),
        ("postgres://%2Fvar%2Frun:5433/rb", [("/var/run", 5433)], "rb", "postgresql:///rb"),
        ("postgres://me@localhost/rb?host=/cloudsql/a:b:c", [("/cloudsql/a:b:c", None)], "rb", "postgresql://me@/rb"),
        ("postgres:///rb?host=h1,h2&port=1,2", [("h1", 1), ("h2", 2)], "rb", "postgresql:///rb"),
        ("postgres:///rb?host=h1,h2&port=7", [("h1", 7), ("h2", 7)], "rb", "postgresql:///rb"),
        ("postgres:///rb?host=h1:1,::1", [("h1", 1), ("::1", None)], "rb", "postgresql:///rb"),
        ("postgres:///rb?hostaddr=10.0.0.1", [("10.0.0.1", None)], "rb", "postgresql:///rb"),
        ("postgres://h:1/rb?port=2&dbname=other", [("h", 2)], "other", "postgresql:///other"),
        ("postgres://h:1/rb?host=a,b", [("a", 1), ("b", 1)], "rb", "postgresql:///rb"),
        ("postgres:///rb?port=5433", [("", 5433)], "rb", "postgresql:///rb"),
        ("postgres://:5433/rb", [("", 5433)], "rb", "postgresql:///rb"),
        ("postgres://db?database=rb&user=me&password=a%26b", [("db", None)], "rb", "postgresql://me:a%26b@/rb"),
        ("postgres://a:x@db/rb?user=b&password=y", [("db", None)], "rb", "postgresql://b:y@/rb"),
        ("postgres://a:x@db/rb?user=b", [("db", None)], "rb", "postgresql://b:x@/rb"),
        ("postgres://db/rb?password=a+b&passfile=/etc/a+b%20c", [("db", None)], "rb",
         "postgresql://:a%2Bb@/rb?passfile=%2Fetc%2Fa%2Bb%20c"),
        ("postgres://me:pa#ss@db/rb", [("db", None)], "rb", "postgresql://me:pa%23ss@/rb"),
        ("postgres://me:pa?ss@db/rb", [("db", None)], "rb", "postgresql://me:pa%3Fss@/rb"),
        ("postgres://me:1#s@db:5433/rb", [("db", 5433)], "rb", "postgresql://me:1%23s@/rb"),
        ("postgres://me:a?host=b@db/r#b?password=y#?z", [("db", None)], "r#b", "postgresql://me:y%23%3Fz@/r%23b"),
        ("postgres:///rb?sslmode=require&sslrootcert=/a%20b&passfile=/c", [], "rb",
         "postgresql:///rb?sslmode=require&sslrootcert=%2Fa%20b&passfile=%2Fc"),
        ("postgres:///rb?ssl=true", [], "rb", "postgresql:///rb?sslmode=require"),
        ("postgres:///rb?ssl=True", [], "rb", "postgresql:///rb?sslmode=require"),
        ("postgres:///rb?ssl=1", [], "rb", "postgresql:///rb?sslmode=require"),
        ("postgres:///rb?ssl=require", [], "rb", "postgresql:///rb?sslmode=require"),
        ("postgres:///rb?ssl=verify-full", [], "rb", "postgresql:///rb?sslmode=verify-full"),
        ("postgres:///rb?ssl=disable", [], "rb", "postgresql:///rb?sslmode=disable"),
        ("postgres:///rb?ssl=1&sslmode=verify-ca", [], "rb", "postgresql:///rb?sslmode=verify-ca"),
        ("postgres:///rb?requiressl=1", [], "rb", "postgresql:///rb?sslmode=require"),
        ("postgres:///rb?sslmode=&sslcert&=x", [], "rb", "postgresql:///rb"),
    ],
)  # fmt: skip
def test_the_parts_of_a_url(url: str, hosts: list[tuple[str, int | None]], database: str, dsn: str) -> None:
    parsed = parse_postgres_url(url)

    assert (list(parsed.hosts), parsed.database, parsed.dsn) == (hosts, database, dsn)
    assert (parsed.settings.keys() - {""}, parsed.ignored) == (set(), ())


@pytest.mark.parametrize(
    ("options", "settings", "ignored"),
    [
        ("application_name=rb&fallback_application_name=x", {"application_name": "rb"}, ()),
        ("fallback_application_name=x", {"application_name": "x"}, ()),
        ("options=-c%20geqo%3Doff&statement_timeout=5s", {"options": "-c geqo=off", "statement_timeout": "5s"}, ()),
        ("pgbouncer=true&schema=public", {"pgbouncer": "true", "schema": "public"}, ()),
        ("channel_binding=require&gssencmode=require", {}, ("channel_binding", "gssencmode")),
        ("channel_binding=prefer&gssencmode=disable&client_encoding=UTF8&sslsni=1&load_balance_hosts=disable", {}, ()),
        ("keepalives=1&keepalives_idle=30&keepalives_interval=10&keepalives_count=3&tcp_user_timeout=9", {},
         ("keepalives", "keepalives_count", "keepalives_idle", "keepalives_interval", "tcp_user_timeout")),
        ("client_encoding=LATIN1&replication=database&hostaddr=10.0.0.1&requirepeer=me", {},
         ("client_encoding", "hostaddr", "replication", "requirepeer")),
        ("connect_timeout=0&require_auth=none", {}, ("require_auth", "connect_timeout")),
        ("connect_timeout=soon", {}, ("connect_timeout",)),
        ("ssl=false", {}, ("ssl",)),
        ("ssl=no-verify", {}, ("ssl",)),
        ("ssl_min_protocol_version=SSLv3&ssl_max_protocol_version=2", {},
         ("ssl_max_protocol_version", "ssl_min_protocol_version")),
        ("service=none&servicefile=/none", {}, ("service",)),
    ],
)  # fmt: skip
def test_options_for_the_server_and_options_that_are_ignored(
    options: str, settings: dict[str, str], ignored: tuple[str, ...]
) -> None:
    parsed = parse_postgres_url(f"postgres://db/rb?{options}")

    assert (parsed.settings, parsed.ignored, parsed.dsn) == (settings, ignored, "postgresql:///rb")


def test_options_that_ringback_implements() -> None:
    parsed = parse_postgres_url("postgres://db/rb?connect_timeout=10&target_session_attrs=read-write")
    assert (parsed.connect_seconds, parsed.target_session_attrs) == (10.0, "read-write")
    tls = {"sslmode": "require", "sslcert": "/c", "sslkey": "/k", "sslcrl": "/l", "ssl_min_protocol_version": "TLSv1.3"}
    parsed = parse_postgres_url("postgres://db/rb?sslrootcert=system&" + urlencode(tls))
    assert (parsed.trusts_system, parsed.tls, parsed.dsn) == (
        True,
        {**tls, "sslrootcert": "system"},
        "postgresql:///rb",
    )


SERVICES = """
# [rb]
[other]
host=wrong
[rb]
host=/run/pg
port=5433
dbname=rb
user = me
password=p%s=w;d#
application_name=from the service
options=-c geqo=off
connect_timeout=7
channel_binding=require
sslmode=require
host=wrong
[more]
user=wrong
"""


def test_a_service_completes_a_url(tmp_path: Path) -> None:
    file = tmp_path / "services"
    file.write_text(SERVICES)

    parsed = parse_postgres_url(f"postgres://?service=rb&servicefile={file}")

    assert parsed.has_service
    assert (parsed.hosts, parsed.database, parsed.connect_seconds) == ((Host("/run/pg", 5433),), "rb", 7.0)
    assert parsed.dsn == "postgresql://me:p%25s%3Dw%3Bd%23@/rb?sslmode=require"
    assert parsed.settings == {"application_name": "from the service", "options": "-c geqo=off"}
    assert parsed.ignored == ("channel_binding",)


def test_a_url_replaces_the_options_of_its_service(tmp_path: Path) -> None:
    file = tmp_path / "services"
    file.write_text(SERVICES)

    parsed = parse_postgres_url(f"postgres://you@db:1/my?service=rb&servicefile={file}&application_name=mine&ssl=allow")

    assert (parsed.hosts, parsed.database) == ((Host("db", 1),), "my")
    assert parsed.dsn == "postgresql://you:p%25s%3Dw%3Bd%23@/my?sslmode=allow"
    assert parsed.settings == {"application_name": "mine", "options": "-c geqo=off"}


@pytest.mark.parametrize(
    ("url", "display"),
    [
        ("postgres://me:hidden@db:1,db2/rb?password=hidden#hidden", "postgres://db:1,db2/rb"),
        ("postgresql://me:hid#?den@db/rb", "postgresql://db/rb"),
        ("postgres://me:hid@den@db/rb", "postgres://db/rb"),
        ("postgres://me:1/hidden@db/rb", "postgres://me:1/…"),
    ],
)
def test_the_text_for_logs_has_no_password(url: str, display: str) -> None:
    assert parse_postgres_url(url).display == display


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("mysql://db/rb", "must start with postgres:// or postgresql://"),
        ("postgres://db:x/rb", "a port is not a number from 1 to 65535."),
        ("postgres://db:65536/rb", "a port is not a number from 1 to 65535."),
        ("postgres:///rb?host=a,b,c&port=1,2", "there are 3 hosts and 2 ports."),
        ("postgres://me:hid/den@db/rb", "a port is not a number from 1 to 65535. Percent-encode special characters"),
        ("postgres://[::1/rb", "a host or port is invalid. Write host:port."),
    ],
)
def test_an_invalid_url(url: str, fault: str) -> None:
    with pytest.raises(ValueError, match=f"^{fault}") as caught:
        parse_postgres_url(url)
    assert "hid" not in str(caught.value)


@given(
    user=st.text("aя@:/?#[]%+& ", min_size=1),
    password=st.text("bя@:/?#[]%+&= "),
    database=st.text("cя/?#%+& ", min_size=1),
)
def test_percent_encoded_parts_reach_the_driver(user: str, password: str, database: str) -> None:
    url = f"postgres://{quote(user, safe='')}:{quote(password, safe='')}@db:5433/{quote(database, safe='')}"
    parsed = parse_postgres_url(url)

    _, parameters = _parse_connect_dsn_and_args(
        dsn=parsed.dsn, host="db", port=5433, user=None, password=None, passfile="/none", database=None,
        ssl=None, service=None, servicefile=None, direct_tls=None, server_settings=None,
        target_session_attrs=None, krbsrvname=None, gsslib=None,
    )  # fmt: skip

    assert (parameters.user, parameters.password or "", parameters.database) == (user, password, database)
    assert parsed.hosts == (Host("db", 5433),)
