"""Looks up the addresses of host names: by c-ares, or by the system's resolver where c-ares cannot start."""

import asyncio
import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import aiodns
import pycares

from ringback.jobs.http.error_mapping import LookupFailed, quote

#: Seconds before the first DNS query is repeated; c-ares doubles them for the next.
DNS_TIMEOUT_SECONDS = 1.0
#: Queries to one server, so that a lookup ends although its sender has long given up.
DNS_TRIES = 2
#: Threads of the fallback resolver, which blocks one for each lookup.
DNS_THREADS = 16
_NO_SUCH_NAME = (aiodns.error.ARES_ENOTFOUND, aiodns.error.ARES_ENODATA, aiodns.error.ARES_EBADNAME)


class Lookup(Protocol):
    """A resolver of host names."""

    async def addresses(self, name: str) -> Sequence[str]:
        """Return the addresses of `name` as text, best first; raises LookupFailed."""

    async def close(self) -> None:
        """Cancel running lookups and free their resources."""


class DnsLookup:
    """Lookups by c-ares, which reads /etc/hosts and blocks no thread: a name that hangs delays no other."""

    def __init__(self) -> None:
        self._dns = aiodns.DNSResolver(timeout=DNS_TIMEOUT_SECONDS, tries=DNS_TRIES)

    async def addresses(self, name: str) -> list[str]:
        """Return the addresses of `name`; raises LookupFailed."""
        try:
            result = await self._dns.getaddrinfo(name, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
        except aiodns.error.DNSError as error:
            raise _lookup_failed(name, error, no_such_name=error.args[0] in _NO_SUCH_NAME) from error
        return [node.addr[0].decode("ascii") for node in result.nodes]

    async def close(self) -> None:
        """Cancel running queries and end c-ares's thread."""
        await self._dns.close()


class SystemLookup:
    """Lookups by the system's getaddrinfo, on a few threads of their own: the fallback where c-ares cannot start."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(DNS_THREADS, thread_name_prefix="ringback-dns")

    async def addresses(self, name: str) -> list[str]:
        """Return the addresses of `name`; raises LookupFailed."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, _look_up, name)
        except OSError as error:
            no_such_name = error.errno in (socket.EAI_NONAME, socket.EAI_NODATA)
            raise _lookup_failed(name, error, no_such_name=no_such_name) from error
        except UnicodeError as error:  # getaddrinfo encodes the name with IDNA, even one that is ASCII already
            raise _lookup_failed(name, error, no_such_name=True) from error

    async def close(self) -> None:
        """Start no further lookup; one that hangs ends when the system gives up."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def default_lookup() -> Lookup:
    """Return c-ares for the running loop, or the system's resolver where c-ares cannot start."""
    try:
        return DnsLookup()
    except (pycares.AresError, OSError, RuntimeError):
        return SystemLookup()


def _look_up(name: str) -> list[str]:
    return [str(info[4][0]) for info in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)]


def _lookup_failed(name: str, error: Exception, *, no_such_name: bool) -> LookupFailed:
    if no_such_name:
        return LookupFailed(f"The name {name} does not resolve.")
    return LookupFailed(f"The name {name} could not be looked up: {quote(str(error.args[-1]))}.")
