"""The address guard at name resolution, as a resolver of aiohttp's."""

import socket
from ipaddress import ip_address

import structlog
from aiohttp.abc import AbstractResolver, ResolveResult

from ringback.jobs.http.dns import Lookup
from ringback.jobs.http.error_mapping import LookupFailed
from ringback.models.errors import AddressBlocked
from ringback.models.security.address_policy import AddressPolicy

logger = structlog.get_logger("ringback.delivery")


class ConnectRefused(AddressBlocked, OSError):
    """The guard's refusal of an address. aiohttp expects an OSError from sockets and resolvers."""


class GuardedResolver(AbstractResolver):
    """A Lookup for aiohttp that leaves out the addresses that `policy` refuses; without a policy, none."""

    def __init__(self, lookup: Lookup, policy: AddressPolicy | None) -> None:
        self._lookup = lookup
        self._policy = policy

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return the allowed addresses of a host; raises LookupFailed, or ConnectRefused if every one is refused."""
        addresses = await self._lookup.addresses(host)
        if not addresses:
            raise LookupFailed(f"The name {host} does not resolve.")
        allowed: list[ResolveResult] = []
        first_refusal: str | None = None
        for address in addresses:
            refusal = self._refusal(address, host, port)
            if refusal is None:
                allowed.append(_to_result(host, address, port, family))
            elif first_refusal is None:
                first_refusal = refusal
        if not allowed:
            raise ConnectRefused(first_refusal)
        return allowed

    async def close(self) -> None:
        """Do nothing: the sender, whose two pools share the lookup, closes it."""

    def _refusal(self, address: str, host: str, port: int) -> str | None:
        if self._policy is None:
            return None
        refusal = self._policy.refusal(ip_address(address), port, name=host)
        if refusal is not None:
            # The refusal, which API clients read, does not name the address.
            logger.debug("an address is refused", action="resolve", host=host, port=port, address=address)
        return refusal


def _to_result(host: str, address: str, port: int, family: socket.AddressFamily) -> ResolveResult:
    return ResolveResult(hostname=host, host=address, port=port, family=family, proto=0, flags=socket.AI_NUMERICHOST)
