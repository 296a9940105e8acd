"""The address guard from outside: with no network opened, no spelling and no name leads to a connection.

Nothing here can send a packet off loopback, even if the guard is broken: in this machine's own network only loopback is
tried, and private, link-local and metadata addresses are tried in a network namespace of the test's own, where they are
addresses of its loopback device. This file runs itself there as a script (see `in_namespace`).
"""

import asyncio
import fcntl
import ipaddress
import json
import os
import shutil
import socket
import ssl
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import aiohttp
import pytest
from yarl import URL

from ringback.jobs.connections import GuardedResolver, new_pool
from ringback.jobs.outcomes import Blocked
from ringback.jobs.requests import OutgoingRequest, frame
from ringback.jobs.sender import Sender, Sent
from ringback.models.addresses import AddressPolicy
from ringback.models.errors import AddressBlocked

STRICT = AddressPolicy()
ONLY_127_0_0_1 = AddressPolicy((ipaddress.ip_network("127.0.0.1/32"),))
EVERYTHING = AddressPolicy((ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0")))
TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


class Listener:
    """Answers 200 to all requests and counts the connections; what it counts is what the guard let through."""

    def __init__(self) -> None:
        self.connections = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(ANSWER)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def listening(*hosts: str, port: int = 0) -> AsyncIterator[tuple[Listener, int]]:
    """Listen on all of `hosts`, on one port; hosts that the machine does not have are left out."""
    listener = Listener()
    async with AsyncExitStack() as stack:
        for host in hosts:
            try:
                server = await asyncio.start_server(listener, host, port)
            except OSError:
                continue
            stack.callback(server.close)
            port = server.sockets[0].getsockname()[1]
        yield listener, port


class Names:
    """A resolver whose answers are given, each used once; the last one stays."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self._answers = list(answers)
        self.asked = 0

    async def addresses(self, name: str) -> Sequence[str]:
        self.asked += 1
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]

    async def close(self) -> None:
        pass


async def deliver(sender: Sender, url: str, *, unguarded: bool = False) -> Sent:
    request = OutgoingRequest(frame("GET", URL(url), ()))
    return await sender.send(request, timeout_seconds=5, accepts=lambda status: status == 200, unguarded=unguarded)


# ---------------------------------------------------------------------------------------------------------- spellings


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.0.0.1.",
        "127.1",
        "127.0.1",
        "2130706433",
        "017700000001",
        "0x7f000001",
        "0x7F.1",
        "0177.0.0.1",
        "127。0。0。1",
        "１２７.0.0.1",
        "①②⑦.0.0.1",
        "%31%32%37.0.0.1",
        "127.0.0.2",
        "0.0.0.0",
        "0",
        "[::]",
        "[::1]",
        "[0:0:0:0:0:0:0:1]",
        "[::1%25lo]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::ffff:0.0.0.0]",
        "[::127.0.0.1]",
        "localhost",
        "LOCALHOST",
        "localhost.",
        "any.localhost",
    ],
)
async def test_no_spelling_of_loopback_leads_to_a_connection(host: str) -> None:
    async with listening("127.0.0.1", "127.0.0.2", "::1") as (listener, port), Sender(STRICT, tls=TLS) as sender:
        sent = await deliver(sender, f"http://{host}:{port}/")
        assert isinstance(sent.outcome, Blocked), sent.outcome
        assert sent.outcome.error.endswith(
            "deliveries reach public addresses only. To allow it, add its network to RINGBACK_DANGEROUS_ALLOW_NETWORKS."
        )
        assert sent.headers is None
        await asyncio.sleep(0)
        assert listener.connections == 0
        # The same listener is there: with its network allowed, or without the guard, it is reached.
        assert (await deliver(sender, f"http://127.0.0.1:{port}/", unguarded=True)).outcome.name == "DELIVERED"
        assert listener.connections == 1


async def test_the_refusal_names_the_address_and_the_setting() -> None:
    async with Sender(STRICT, tls=TLS) as sender:
        sent = await deliver(sender, "http://127.0.0.1:9/")
    assert sent.outcome == Blocked(
        "127.0.0.1 is a loopback address; deliveries reach public addresses only. "
        "To allow it, add its network to RINGBACK_DANGEROUS_ALLOW_NETWORKS."
    )


# -------------------------------------------------------------------------------------------------------------- names


async def test_a_name_that_leads_to_a_blocked_address_is_refused_with_both() -> None:
    async with (
        listening("127.0.0.1") as (listener, port),
        Sender(STRICT, lookup=Names(["127.0.0.1", "10.0.0.5"]), tls=TLS) as sender,
    ):
        sent = await deliver(sender, f"http://hooks.example:{port}/")
    assert sent.outcome == Blocked(
        "hooks.example → 127.0.0.1 is a loopback address; deliveries reach public addresses only. "
        "To allow it, add its network to RINGBACK_DANGEROUS_ALLOW_NETWORKS."
    )
    assert listener.connections == 0


async def test_of_a_name_with_both_only_the_allowed_addresses_are_tried() -> None:
    async with (
        listening("127.0.0.1") as (allowed, port),
        listening("127.0.0.2", "::1", port=port) as (blocked, _),
        Sender(ONLY_127_0_0_1, lookup=Names(["127.0.0.2", "::1", "127.0.0.1"]), tls=TLS) as sender,
    ):
        assert (await deliver(sender, f"http://hooks.example:{port}/")).outcome.name == "DELIVERED"
    assert (allowed.connections, blocked.connections) == (1, 0)


async def test_the_resolver_hands_on_the_allowed_addresses_only() -> None:
    resolver = GuardedResolver(Names(["127.0.0.2", "127.0.0.1", "::1", "::ffff:127.0.0.1"]), ONLY_127_0_0_1)
    assert [found["host"] for found in await resolver.resolve("hooks.example", 80)] == ["127.0.0.1", "::ffff:127.0.0.1"]


async def test_a_name_that_is_rebound_after_a_delivery_is_judged_anew() -> None:
    names = Names(["127.0.0.1"], ["127.0.0.2"])
    async with (
        listening("127.0.0.1") as (allowed, first_port),
        listening("127.0.0.2") as (blocked, second_port),
        Sender(ONLY_127_0_0_1, lookup=names, tls=TLS) as sender,
    ):
        assert (await deliver(sender, f"http://hooks.example:{first_port}/")).outcome.name == "DELIVERED"
        sent = await deliver(sender, f"http://hooks.example:{second_port}/")
    assert sent.outcome == Blocked(
        "hooks.example → 127.0.0.2 is a loopback address; deliveries reach public addresses only. "
        "To allow it, add its network to RINGBACK_DANGEROUS_ALLOW_NETWORKS."
    )
    assert (names.asked, allowed.connections, blocked.connections) == (2, 1, 0)


@pytest.mark.parametrize("addresses", [["127.0.0.2"], ["127.0.0.2", "127.0.0.3"], ["::1", "127.0.0.2"]])
async def test_the_socket_itself_refuses_what_no_resolver_refused(addresses: list[str]) -> None:
    # The second line alone: a pool whose resolver judges nothing, as if a name were rebound behind its back.
    async with listening(*addresses) as (listener, port), Sender(ONLY_127_0_0_1, tls=TLS) as sender:
        pool = new_pool(GuardedResolver(Names(addresses), None), TLS, sender._guarded_socket)
        with pytest.raises(aiohttp.ClientConnectorError) as refused:
            await pool.connect(URL(f"http://hooks.example:{port}/"))
        await pool.close()
        assert "is a loopback address; deliveries reach public addresses only" in str(refused.value.os_error)
        assert listener.connections == 0


async def test_the_socket_itself_refuses_literals() -> None:
    # aiohttp asks no resolver about these, so only the socket stands between them and the address.
    async with listening("127.0.0.1", "::1") as (listener, port), Sender(STRICT, tls=TLS) as sender:
        for host in ("127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "127。0。0。1"):
            with pytest.raises(aiohttp.ClientConnectorError) as refused:
                await sender._guarded.connect(URL(f"http://{host}:{port}/"))
            assert isinstance(refused.value.os_error, AddressBlocked)
        assert listener.connections == 0


async def test_an_unguarded_connection_is_not_lent_to_guarded_requests() -> None:
    async with listening("127.0.0.1") as (listener, port), Sender(STRICT, tls=TLS) as sender:
        url = f"http://127.0.0.1:{port}/"
        assert (await deliver(sender, url, unguarded=True)).outcome.name == "DELIVERED"
        await asyncio.sleep(0.05)
        assert (await deliver(sender, url)).outcome.name == "BLOCKED"
        assert listener.connections == 1


# ------------------------------------------------------------------------------------------- in a namespace of its own

#: Addresses of the namespace's loopback device, by family, and literals that lead to them.
SPECIAL_V4 = (
    "0.1.2.3",
    "10.0.0.5",
    "100.64.0.1",
    "100.100.100.200",
    "168.63.129.16",
    "169.254.169.254",
    "172.16.0.1",
    "192.0.0.192",
    "192.168.1.1",
    "198.18.0.1",
    "203.0.113.1",
    "240.0.0.1",
)
SPECIAL_V6 = (
    "::10.0.0.5",
    "64:ff9b::a00:5",
    "64:ff9b:1::a00:5",
    "2001::1",
    "2001:db8::1",
    "2002:a00:5::1",
    "3fff::1",
    "5f00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fec0::1",
)
SPELLINGS = (
    *SPECIAL_V4,
    *(f"[{address}]" for address in SPECIAL_V6 if address != "fe80::1"),
    "[::ffff:10.0.0.5]",
    "[::ffff:169.254.169.254]",
    "169。254。169。254",
)
PORT = 8080


def test_private_link_local_and_metadata_addresses_are_never_reached() -> None:
    seen = in_namespace()
    names = {f"name of {address}": address for address in (*SPECIAL_V4, *SPECIAL_V6)}
    assert set(seen["guarded"]) == {*SPELLINGS, *names}
    assert {target: outcome for target, outcome in seen["guarded"].items() if outcome != "BLOCKED"} == {}
    assert seen["guarded_connections"] == 0
    # Each of them is there to be reached: the same requests arrive when the operator opens everything.
    assert {target: outcome for target, outcome in seen["opened"].items() if outcome != "DELIVERED"} == {}
    assert seen["opened_connections"] == len(SPELLINGS) + len(names)


def in_namespace() -> dict[str, Any]:
    """Run this file as a script in a network namespace that has nothing but loopback, and return what it saw."""
    unshare = shutil.which("unshare")
    enter = [unshare or "unshare", "--user", "--map-root-user", "--net"]
    if unshare is None or subprocess.run([*enter, "true"], capture_output=True).returncode:
        reason = "needs `unshare --user --map-root-user --net` (util-linux, and unprivileged user namespaces)"
        if os.environ.get("CI") == "true":
            pytest.fail(f"{reason}; in CI this test may not be skipped")
        pytest.skip(reason)
    run = subprocess.run([*enter, sys.executable, __file__], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    result: dict[str, Any] = json.loads(run.stdout)
    return result


def _give_loopback_the_special_addresses() -> None:
    # By ioctl (netdevice(7)), so that no package is needed: iproute2 is often missing.
    set_flags, set_address, up_and_running, loopback = 0x8914, 0x8916, 0x1 | 0x40, "lo"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, set_flags, struct.pack("16sh22x", loopback.encode(), up_and_running))
        for number, address in enumerate(SPECIAL_V4):
            packed = ipaddress.IPv4Address(address).packed
            alias = f"{loopback}:{number}".encode()
            fcntl.ioctl(control, set_address, struct.pack("16sHH4s16x", alias, socket.AF_INET, 0, packed))
    index = socket.if_nametoindex(loopback)
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as control:
        for address in SPECIAL_V6:
            fcntl.ioctl(control, set_address, struct.pack("16sIi", ipaddress.IPv6Address(address).packed, 128, index))


async def _try_all(policy: AddressPolicy) -> tuple[dict[str, str], int]:
    outcomes = {}
    async with listening("0.0.0.0", "::", port=PORT) as (listener, _):
        for spelling in SPELLINGS:
            async with Sender(policy, tls=TLS) as sender:
                outcomes[spelling] = (await deliver(sender, f"http://{spelling}:{PORT}/")).outcome.name
        for address in (*SPECIAL_V4, *SPECIAL_V6):
            scoped = f"{address}%lo" if address == "fe80::1" else address
            async with Sender(policy, lookup=Names([scoped]), tls=TLS) as sender:
                sent = await deliver(sender, f"http://hooks.example:{PORT}/")
                outcomes[f"name of {address}"] = sent.outcome.name
        return outcomes, listener.connections


async def _main() -> None:
    _give_loopback_the_special_addresses()
    guarded, guarded_connections = await _try_all(STRICT)
    opened, opened_connections = await _try_all(EVERYTHING)
    json.dump(
        {
            "guarded": guarded,
            "guarded_connections": guarded_connections,
            "opened": opened,
            "opened_connections": opened_connections,
        },
        sys.stdout,
    )


if __name__ == "__main__":
    asyncio.run(_main())
