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
from urllib.parse import quote, unquote, urlencode

from ringback.models.database.postgres_service import read_service

#: User and password end at the last @ before a slash. As in libpq, they may contain ? and #, and nothing is a fragment.
_URL = re.compile(
    r"(?P<scheme>postgres(?:ql)?)://(?:(?P<userinfo>[^/]*)@)?(?P<hostspec>[^/?]*)(?P<path>/[^?]*)?(?:\?(?P<query>.*))?",
    re.DOTALL,
)
_HOST_AND_PORT = re.compile(r"(?:\[(?P<ipv6>[^\]]*)\]|(?P<name>[^:\[\]]*))(?::(?P<port>.*))?")
_PORT = re.compile(r"[0-9]{1,5}")
_SECONDS = re.compile(r"[0-9]{1,6}(\.[0-9]{1,6})?")
_ENCODE = "Percent-encode special characters in user and password, such as %2F for /."
#: Options of TLS, which are not for asyncpg if the certificates of the system are trusted.
_TLS_OPTIONS = {
    "ssl_max_protocol_version", "ssl_min_protocol_version", "sslcert", "sslcrl", "sslkey", "sslmode", "sslpassword",
    "sslrootcert",
}  # fmt: skip
#: Options that asyncpg takes from a URL.
_ASYNCPG_OPTIONS = _TLS_OPTIONS | {"gsslib", "krbsrvname", "passfile", "sslnegotiation"}
_TLS_VERSIONS = {"TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"}
#: Values of `ssl`, as other drivers write `sslmode`.
_SSL_MODES = {
    **{mode: mode for mode in ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")},
    "true": "require",
    "1": "require",
}
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
    "service": frozenset(),
    "ssl": frozenset(),
    "sslcertmode": frozenset({"allow"}),
    "sslcompression": frozenset({"0"}),
    "sslcrldir": frozenset(),
    "sslkeylogfile": frozenset(),
    "sslsni": frozenset({"1"}),
    "tcp_user_timeout": frozenset({"0"}),
    "tty": frozenset(),
}


class Host(NamedTuple):
    """A server: a name, an address or the folder of a Unix socket. asyncpg decides about a missing name or port."""

    name: str
    port: int | None


@dataclass(frozen=True, slots=True)
class PostgresUrl:
    """The parts of a Postgres URL.

    - `display`: the URL without user, password and options.
    - `dsn`: the URL for asyncpg, without hosts and with the options that it knows.
    - `hosts`: the servers to try, in order. Empty: asyncpg decides, from the environment.
    - `database`: the name of the database, or "" if asyncpg decides.
    - `has_service`: whether the URL names a service, whose options complete it.
    - `target_session_attrs`: which server to choose, or None.
    - `connect_seconds`: seconds to wait for one server, or None.
    - `trusts_system`: whether the certificates of the system decide whether a server is trusted, with
      `sslrootcert=system`.
    - `tls`: the other options of TLS, if `trusts_system`.
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
    tls: Mapping[str, str] = field(repr=False)
    settings: Mapping[str, str]
    ignored: tuple[str, ...]


@lru_cache(64)
def parse_postgres_url(text: str) -> PostgresUrl:
    """Parse a URL. Raises ValueError with what is wrong, without the value, which may contain a password.

    As in libpq, an option replaces what stands before it in the URL, and both replace the option of a service.
    """
    match = _URL.fullmatch(text)
    if match is None:
        raise ValueError("must start with postgres:// or postgresql://")
    options = _parse_authority(match) | _parse_query(match["query"] or "")
    has_service = "service" in options
    options = _add_service(options)
    hosts = _take_hosts(options)
    database = options.pop("dbname", "")
    credentials = _take_credentials(options)
    ignored = _take_unsupported(options)
    ignored += _take_unknown_tls_versions(options)
    connect_seconds = _take_connect_seconds(options, ignored)
    target_session_attrs = options.pop("target_session_attrs", None)
    trusts_system = options.get("sslrootcert") == "system"
    tls: dict[str, str] = {}
    if trusts_system:
        tls = {name: options.pop(name) for name in _TLS_OPTIONS & options.keys()}
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
        display=_build_display(match),
        dsn=_build_dsn(credentials, database, known),
        hosts=hosts,
        database=database,
        has_service=has_service,
        target_session_attrs=target_session_attrs,
        connect_seconds=connect_seconds,
        trusts_system=trusts_system,
        tls=tls,
        settings=settings,
        ignored=tuple(ignored),
    )


def _parse_authority(match: re.Match[str]) -> dict[str, str]:
    """Return what stands before the query of a URL, as options."""
    user, _, password = (match["userinfo"] or "").partition(":")
    hosts: list[str] = []
    ports: list[str] = []
    for spec in match["hostspec"].split(","):
        name, port = _split_port(spec)
        hosts.append(unquote(name))
        ports.append(unquote(port))
    options = {"user": unquote(user), "password": unquote(password), "host": ",".join(hosts)}
    if any(ports):
        options["port"] = ",".join(ports)
    options["dbname"] = unquote((match["path"] or "").removeprefix("/"))
    return _rename_options(options)


def _parse_query(query: str) -> dict[str, str]:
    """Return the options of a query, in which + is no space. The last one of a name counts."""
    options: dict[str, str] = {}
    for pair in query.split("&"):
        name, _, value = pair.partition("=")
        options[unquote(name)] = unquote(value)
    return _rename_options(options)


def _add_service(options: dict[str, str]) -> dict[str, str]:
    """Return the options with those of the service that they name. They keep the name of one that is not found."""
    file = options.pop("servicefile", None)
    if "service" not in options:
        return options
    service_options = _rename_options(read_service(options["service"], file))
    if service_options:
        del options["service"]
    return service_options | options


def _rename_options(options: Mapping[str, str]) -> dict[str, str]:
    """Return the options that have a value, with libpq's names for those of other drivers and of its old versions."""
    renamed = {name: value for name, value in options.items() if name and value}
    if "database" in renamed:
        renamed.setdefault("dbname", renamed.pop("database"))
    ssl_mode = _SSL_MODES.get(renamed.get("ssl", "").lower())
    if ssl_mode is not None:
        del renamed["ssl"]
    if renamed.pop("requiressl", None) == "1":
        ssl_mode = "require"
    if ssl_mode is not None:
        renamed.setdefault("sslmode", ssl_mode)
    return renamed


def _take_hosts(options: dict[str, str]) -> tuple[Host, ...]:
    """Remove and return the servers: the option `host`, or else `hostaddr`, and the option `port`."""
    in_options = options.pop("host", "") or options.pop("hostaddr", "")
    hosts = [_parse_host(spec) for spec in in_options.split(",")]
    ports = [_parse_port(port) for port in options.pop("port", "").split(",")]
    if len(ports) == 1:
        ports *= len(hosts)
    if len(ports) != len(hosts):
        raise ValueError(f"there are {len(hosts)} hosts and {len(ports)} ports. Enter one port, or one for each host.")
    servers = [Host(host.name, port or host.port) for host, port in zip(hosts, ports, strict=True)]
    return tuple(server for server in servers if server.name or server.port)


def _parse_host(spec: str) -> Host:
    """Parse a host: a name or an address, perhaps with a port, or the folder of a socket."""
    if spec.startswith("/") or (spec.count(":") > 1 and not spec.startswith("[")):
        return Host(spec, None)
    name, port = _split_port(spec)
    return Host(name, _parse_port(port))


def _split_port(spec: str) -> tuple[str, str]:
    """Return host and port of a text, each "" if it is missing."""
    match = _HOST_AND_PORT.fullmatch(spec)
    if match is None:
        raise ValueError(f"a host or port is invalid. Write host:port. {_ENCODE}")
    return match["ipv6"] or match["name"] or "", match["port"] or ""


def _parse_port(text: str) -> int | None:
    if not text:
        return None
    if not _PORT.fullmatch(text) or not 0 < int(text) < 65_536:
        raise ValueError(f"a port is not a number from 1 to 65535. {_ENCODE}")
    return int(text)


def _take_credentials(options: dict[str, str]) -> str:
    """Remove user and password, and return them as a URL starts with them."""
    user = quote(options.pop("user", ""), safe="")
    password = quote(options.pop("password", ""), safe="")
    if password:
        return f"{user}:{password}@"
    return f"{user}@" if user else ""


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


def _take_unknown_tls_versions(options: dict[str, str]) -> list[str]:
    """Remove the options that limit the version of TLS and name none that exists. Return their names."""
    names = {"ssl_max_protocol_version", "ssl_min_protocol_version"} & options.keys()
    unknown = [name for name in sorted(names) if options[name] not in _TLS_VERSIONS]
    for name in unknown:
        del options[name]
    return unknown


def _build_display(match: re.Match[str]) -> str:
    """Return a URL without user, password and options. An @ after a slash is part of a password that has a slash."""
    path = match["path"] or ""
    if "@" in path:
        path = "/…"
    return f"{match['scheme']}://{match['hostspec']}{path}"


def _build_dsn(credentials: str, database: str, options: Mapping[str, str]) -> str:
    path = f"/{quote(database, safe='')}" if database else ""
    query = f"?{urlencode(options, quote_via=quote)}" if options else ""
    return f"postgresql://{credentials}{path}{query}"
