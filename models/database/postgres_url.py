"""Postgres URLs as libpq and other tools write them, made fit for asyncpg.

asyncpg sends every option that it does not know to the server as a setting, and the server refuses the connection if it
does not know it either. libpq has many such options (`connect_timeout`, `keepalives`, `channel_binding`), and other
tools add their own (`pgbouncer=true`, `schema=public`). So the options of a URL are sorted here: those that asyncpg
knows, those that Ringback implements, those that change nothing for it, and the others, which may be settings of the
server.

Source: https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import parse_qsl, quote, unquote, urlencode

#: The authority ends at the first slash. `#` would start a fragment.
_URL = re.compile(
    r"(?P<scheme>postgres(?:ql)?)://(?P<authority>[^/?#]*)(?P<path>/[^?#]*)?(?:\?(?P<query>[^#]*))?(?:#.*)?", re.DOTALL
)
_HOST_AND_PORT = re.compile(r"(?:\[(?P<ipv6>[^\]]*)\]|(?P<name>[^:\[\]]*))(?::(?P<port>.*))?")
_PORT = re.compile(r"[0-9]{1,5}")
_SECONDS = re.compile(r"[0-9]{1,6}(\.[0-9]{1,6})?")
_ENCODE = "Percent-encode special characters in user and password, such as %2F for /."
#: Options that asyncpg takes from a URL.
_ASYNCPG_OPTIONS = {
    "database", "dbname", "gsslib", "krbsrvname", "passfile", "password", "service", "ssl_max_protocol_version",
    "ssl_min_protocol_version", "sslcert", "sslcrl", "sslkey", "sslmode", "sslnegotiation", "sslpassword",
    "sslrootcert", "user",
}  # fmt: skip
#: Options of TLS certificates, which do not apply if the certificates of the system are trusted.
_TLS_OPTIONS = {"sslcert", "sslkey", "sslmode", "sslpassword", "sslrootcert"}
#: Options of libpq that asyncpg cannot honour, each with the values that ask for what asyncpg does anyway.
_UNSUPPORTED: Mapping[str, frozenset[str]] = {
    "authtype": frozenset(),
    "channel_binding": frozenset({"disable", "prefer"}),
    "client_encoding": frozenset({"auto", "utf8", "utf-8", "unicode"}),
    "gssdelegation": frozenset({"0"}),
    "gssencmode": frozenset({"disable", "prefer"}),
    "hostaddr": frozenset(),
    "keepalives": frozenset(),
    "keepalives_count": frozenset(),
    "keepalives_idle": frozenset(),
    "keepalives_interval": frozenset(),
    "load_balance_hosts": frozenset({"disable"}),
    "max_protocol_version": frozenset({"3.0"}),
    "min_protocol_version": frozenset({"3.0"}),
    "oauth_client_id": frozenset(),
    "oauth_client_secret": frozenset(),
    "oauth_issuer": frozenset(),
    "oauth_scope": frozenset(),
    "replication": frozenset({"false", "off", "no", "0"}),
    "require_auth": frozenset(),
    "requirepeer": frozenset(),
    "scram_client_key": frozenset(),
    "scram_server_key": frozenset(),
    "servicefile": frozenset(),
    "sslcertmode": frozenset({"allow"}),
    "sslcompression": frozenset({"0"}),
    "sslcrldir": frozenset(),
    "sslkeylogfile": frozenset(),
    "sslsni": frozenset({"1"}),
    "tcp_user_timeout": frozenset({"0"}),
    "tty": frozenset(),
}


class Host(NamedTuple):
    """A server: a name, an address or the folder of a Unix socket. Without a port, the default port."""

    name: str
    port: int | None


@dataclass(frozen=True, slots=True)
class PostgresUrl:
    """The parts of a Postgres URL.

    - `display`: the URL without user, password and options.
    - `dsn`: the URL for asyncpg, without hosts and with the options that it knows.
    - `hosts`: the servers to try, in order. Empty: asyncpg decides, from the service or the environment.
    - `database`: the name of the database, or "" if asyncpg decides.
    - `has_service`: whether the URL names a service, whose file completes it.
    - `target_session_attrs`: which server to choose, or None.
    - `connect_seconds`: seconds to wait for one server, or None.
    - `trusts_system`: whether the certificates of the system decide whether a server is trusted, with
      `sslrootcert=system`.
    - `certificate`: sslcert, sslkey and sslpassword, if `trusts_system`.
    - `settings`: options for the server.
    - `ignored`: the names of options that cannot be honoured.
    """

    display: str
    dsn: str = field(repr=False)
    hosts: tuple[Host, ...]
    database: str
    has_service: bool
    target_session_attrs: str | None
    connect_seconds: float | None
    trusts_system: bool
    certificate: Mapping[str, str] = field(repr=False)
    settings: Mapping[str, str]
    ignored: tuple[str, ...]


@lru_cache(64)
def parse_postgres_url(text: str) -> PostgresUrl:
    """Parse a URL. Raises ValueError with what is wrong, without the value, which may contain a password.

    As in libpq, the options `host`, `port`, `user`, `password` and `dbname` replace what stands before them.
    """
    match = _URL.fullmatch(text)
    if match is None:
        raise ValueError("must start with postgres:// or postgresql://")
    userinfo, _, hostspec = match["authority"].rpartition("@")
    options = _parse_options(match["query"] or "")
    path = match["path"] or ""
    database = _take_database(options, path)
    hosts = _take_hosts(options, hostspec)
    ignored = _take_unsupported(options)
    connect_seconds = _take_connect_seconds(options, ignored)
    target_session_attrs = options.pop("target_session_attrs", None)
    trusts_system = options.get("sslrootcert") == "system"
    certificate = {}
    if trusts_system:
        certificate = {name: options.pop(name) for name in _TLS_OPTIONS & options.keys()}
    known: dict[str, str] = {}
    settings: dict[str, str] = {}
    for name, value in options.items():
        if name in _ASYNCPG_OPTIONS:
            known[name] = value
        else:
            settings[name] = value
    fallback_name = settings.pop("fallback_application_name", None)
    if fallback_name is not None:
        settings.setdefault("application_name", fallback_name)
    return PostgresUrl(
        display=f"{match['scheme']}://{hostspec}{path}",
        dsn=_build_dsn(userinfo, database, known),
        hosts=hosts,
        database=database,
        has_service="service" in known,
        target_session_attrs=target_session_attrs,
        connect_seconds=connect_seconds,
        trusts_system=trusts_system,
        certificate=certificate,
        settings=settings,
        ignored=tuple(ignored),
    )


def _parse_options(query: str) -> dict[str, str]:
    """Return the options that have a value. The last one of a name counts."""
    options = dict(parse_qsl(query))
    # Two options with which libpq accepts the URLs of other drivers and of its own old versions.
    if options.pop("ssl", None) == "true" or options.pop("requiressl", None) == "1":
        options.setdefault("sslmode", "require")
    return options


def _take_database(options: dict[str, str], path: str) -> str:
    names = (options.pop("dbname", ""), options.pop("database", ""), unquote(path.removeprefix("/")))
    return next(filter(None, names), "")


def _take_hosts(options: dict[str, str], hostspec: str) -> tuple[Host, ...]:
    """Return the servers of a URL: its option `host`, its authority, or else its option `hostaddr`."""
    ports = [_parse_port(port) for port in options.pop("port", "").split(",")]
    in_option = options.pop("host", "")
    if in_option:
        hosts = [_parse_host_option(spec) for spec in in_option.split(",") if spec]
    else:
        specs = hostspec or options.pop("hostaddr", "")
        hosts = [_parse_host(spec) for spec in specs.split(",") if spec]
    if ports == [None] or not hosts:
        return tuple(hosts)
    if len(ports) == 1:
        ports *= len(hosts)
    if len(ports) != len(hosts):
        raise ValueError(f"there are {len(hosts)} hosts and {len(ports)} ports. Enter one port, or one for each host.")
    return tuple(Host(host.name, port) for host, port in zip(hosts, ports, strict=True))


def _parse_host_option(spec: str) -> Host:
    """Parse a host of an option, which may be the folder of a socket or an IPv6 address without brackets."""
    if spec.startswith("/") or (spec.count(":") > 1 and not spec.startswith("[")):
        return Host(spec, None)
    return _parse_host(spec)


def _parse_host(spec: str) -> Host:
    match = _HOST_AND_PORT.fullmatch(spec)
    if match is None:
        raise ValueError(f"a host or port is invalid. Write host:port. {_ENCODE}")
    name = unquote(match["ipv6"] or match["name"] or "localhost")
    return Host(name, _parse_port(match["port"] or ""))


def _parse_port(text: str) -> int | None:
    if not text:
        return None
    if not _PORT.fullmatch(text) or not 0 < int(text) < 65_536:
        raise ValueError(f"a port is not a number from 1 to 65535. {_ENCODE}")
    return int(text)


def _take_unsupported(options: dict[str, str]) -> list[str]:
    """Remove the options that asyncpg cannot honour. Return the names of those that ask for something else."""
    unsupported = {name: options.pop(name) for name in sorted(_UNSUPPORTED.keys() & options.keys())}
    return [name for name, value in unsupported.items() if value.lower() not in _UNSUPPORTED[name]]


def _take_connect_seconds(options: dict[str, str], ignored: list[str]) -> float | None:
    """Remove and return `connect_timeout`. 0, which means to wait forever in libpq, is ignored."""
    text = options.pop("connect_timeout", None)
    if text is None:
        return None
    if not _SECONDS.fullmatch(text.strip()) or not float(text):
        ignored.append("connect_timeout")
        return None
    return float(text)


def _build_dsn(userinfo: str, database: str, options: Mapping[str, str]) -> str:
    user, colon, password = userinfo.partition(":")
    authority = quote(unquote(user), safe="") + colon + quote(unquote(password), safe="")
    at = "@" if authority else ""
    path = f"/{quote(database, safe='')}" if database else ""
    query = f"?{urlencode(options, quote_via=quote)}" if options else ""
    return f"postgresql://{authority}{at}{path}{query}"
