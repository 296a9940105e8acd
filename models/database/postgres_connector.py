"""Connections to the servers of a Postgres URL.

- Several hosts are tried in order, each for the whole timeout. asyncpg has one timeout for all of them, so a first host
  that does not answer would leave no time for the others.
- Options that neither the driver nor the server knows are left out with one warning, so that a URL written for another
  tool works.
"""

import re
import ssl
from collections.abc import Mapping
from functools import lru_cache
from itertools import product
from typing import Any

import asyncpg
import structlog

from ringback.models.database.postgres_url import Host, PostgresUrl, parse_postgres_url

logger = structlog.get_logger("ringback.database")

#: Seconds to wait for one host, unless the URL has a `connect_timeout`.
CONNECT_SECONDS = 5.0
#: Errors after which the next host is tried. As in libpq, a rejected password is none of them.
_TRY_NEXT_HOST = (
    OSError,
    TimeoutError,
    asyncpg.CannotConnectNowError,
    asyncpg.PostgresConnectionError,
    asyncpg.TargetServerAttributeNotMatched,
)
#: Errors of a server, or of PgBouncer, that rejects an option.
_OPTION_REJECTED = (
    asyncpg.CantChangeRuntimeParamError,
    asyncpg.InsufficientPrivilegeError,
    asyncpg.InvalidParameterValueError,
    asyncpg.PostgresSyntaxError,
    asyncpg.ProtocolViolationError,
    asyncpg.UndefinedObjectError,
)


class Connector:
    """A factory of connections to the servers of one URL."""

    def __init__(self, url: PostgresUrl) -> None:
        self._url = url
        self._settings = dict(url.settings)
        self._new_ignored = list(url.ignored)  # those that have not been logged

    async def connect(self, dsn: str | None = None, *, timeout: float | None = None, **options: Any) -> Any:  # noqa: ASYNC109 - asyncpg's
        """Open a connection to the first host that accepts one, with the arguments of asyncpg's `connect()`.

        `dsn` is not used. `timeout` limits each host, and replaces the one of the URL.
        """
        seconds = timeout or self._url.connect_seconds or CONNECT_SECONDS
        try:
            return await self._connect_to_any(timeout=seconds, **options)
        finally:
            self._log_ignored()

    async def _connect_to_any(self, **options: Any) -> Any:
        wanted = [options.pop("target_session_attrs", None) or self._url.target_session_attrs]
        if wanted == ["prefer-standby"]:
            wanted = ["standby", "any"]
        last_error: Exception | None = None
        for session_attributes, host in product(wanted, self._url.hosts or (None,)):
            try:
                return await self._connect_to(host, target_session_attrs=session_attributes, **options)
            except _TRY_NEXT_HOST as error:
                last_error = error
        assert last_error is not None, "there is at least one attempt"
        raise last_error

    async def _connect_to(self, host: Host | None, **options: Any) -> Any:
        """Connect to one host, again without an option if the server rejects it."""
        given = options.pop("server_settings", None) or {}
        if host is not None:
            options |= {"host": host.name or None, "port": host.port}
        if self._url.trusts_system:
            options.setdefault("ssl", _create_system_context(self._url.tls))
        while True:
            settings = dict(self._settings)
            try:
                return await asyncpg.connect(self._url.dsn, server_settings={**settings, **given}, **options)
            except _OPTION_REJECTED as error:
                name = _find_rejected(settings, str(error))
                if name is None:
                    raise
                if self._settings.pop(name, None) is not None:
                    self._new_ignored.append(name)

    def _log_ignored(self) -> None:
        if self._new_ignored:
            names, self._new_ignored = self._new_ignored, []
            logger.warning(
                "options of the database URL are ignored", action="connect", database=self._url.display, options=names
            )


@lru_cache(64)
def get_connector(url: str) -> Connector:
    """Return the connector of a URL. One per process, so that each option is rejected and logged once."""
    return Connector(parse_postgres_url(url))


def _find_rejected(settings: Mapping[str, str], message: str) -> str | None:
    """Return the setting that an error message names, or else `options`, whose parts it may name."""
    for name in settings:
        if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", message, re.IGNORECASE):
            return name
    return "options" if "options" in settings else None


def _create_system_context(options: Mapping[str, str]) -> ssl.SSLContext:
    """Return a context that verifies the server as `sslmode=verify-full` does, with the system's certificates."""
    context = ssl.create_default_context()
    if "sslcert" in options:
        context.load_cert_chain(options["sslcert"], options.get("sslkey"), password=options.get("sslpassword"))
    if "sslcrl" in options:
        context.load_verify_locations(options["sslcrl"])
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_CHAIN
    if "ssl_min_protocol_version" in options:
        context.minimum_version = _find_tls_version(options["ssl_min_protocol_version"])
    if "ssl_max_protocol_version" in options:
        context.maximum_version = _find_tls_version(options["ssl_max_protocol_version"])
    return context


def _find_tls_version(name: str) -> ssl.TLSVersion:
    return ssl.TLSVersion[name.replace(".", "_")]
