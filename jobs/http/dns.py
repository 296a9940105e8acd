"""The addresses of host names: c-ares, or the system's resolver where c-ares cannot start."""

import asyncio
import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import aiodns
import pycares

from ringback.jobs.http.error_mapping import LookupFailed, first_line

#: Seconds that the first DNS query may take (c-ares doubles them for the next), and the number of queries to a server:
#: what ends a lookup whose sender has long given up.
DNS_TIMEOUT_SECONDS = 1.0
DNS_TRIES = 2
#: Threads of the fallback resolver, which blocks one for each lookup.
DNS_THREADS = 16


class Lookup(Protocol):
    """Finds the addresses of host names."""

    async def addresses(self, name: str) -> Sequence[str]:
        """Return the addresses of `name` as text, best first; raises LookupFailed."""

    async def close(self) -> None:
        """Give up what is under way and free what is held."""


class DnsLookup:
    """Names by c-ares, which knows /etc/hosts and blocks no thread: a name that hangs does not delay the others."""

    def __init__(self) -> None:
        self._dns = aiodns.DNSResolver(timeout=DNS_TIMEOUT_SECONDS, tries=DNS_TRIES)

    async def addresses(self, name: str) -> list[str]:
        """Return the addresses of `name`; raises LookupFailed."""
        try:
            found = await self._dns.getaddrinfo(name, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
        except aiodns.error.DNSError as error:
            raise _lookup_failed(name, error, error.args[0] in _NO_SUCH_NAME) from error
        return [node.addr[0].decode("ascii") for node in found.nodes]

    async def close(self) -> None:
        """Cancel the queries that are under way and end c-ares's thread."""
        await self._dns.close()


_NO_SUCH_NAME = (aiodns.error.ARES_ENOTFOUND, aiodns.error.ARES_ENODATA, aiodns.error.ARES_EBADNAME)


class SystemLookup:
    """Names by the system's getaddrinfo, on a few threads of its own: the fallback where c-ares cannot start."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(DNS_THREADS, thread_name_prefix="ringback-dns")

    async def addresses(self, name: str) -> list[str]:
        """Return the addresses of `name`; raises LookupFailed."""

        def look_up() -> list[str]:
            return [str(info[4][0]) for info in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)]

        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, look_up)
        except OSError as error:
            raise _lookup_failed(name, error, error.errno in (socket.EAI_NONAME, socket.EAI_NODATA)) from error
        except UnicodeError as error:  # getaddrinfo encodes the name with IDNA, also one that is ASCII already
            raise _lookup_failed(name, error, no_such_name=True) from error

    async def close(self) -> None:
        """Start no further lookup; one that hangs ends when the system gives it up."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def default_lookup() -> Lookup:
    """Return c-ares for the running loop, or the system's resolver where c-ares cannot start."""
    try:
        return DnsLookup()
    except (pycares.AresError, OSError, RuntimeError):
        return SystemLookup()


def _lookup_failed(name: str, error: Exception, no_such_name: bool) -> LookupFailed:
    if no_such_name:
        return LookupFailed(f"The name {name} does not resolve.")
    return LookupFailed(f"The name {name} could not be looked up: {first_line(str(error.args[-1]))}.")
