"""The address guard from outside: without an allowed network, no spelling and no name leads to a connection.

Nothing here can send a packet off loopback, even if the guard is broken: only addresses of loopback are tried.
"""

import asyncio
import socket

import aiohttp
import pytest
from structlog.testing import capture_logs
from yarl import URL

from ringback.jobs.http.guarded_resolver import GuardedResolver
from ringback.jobs.http.pool import Pool
from ringback.jobs.http.sender import Sender
from ringback.jobs.outcomes import Blocked
from ringback.models.errors import AddressBlocked
from tests.support.guarded import ONLY_127_0_0_1, STRICT, Names, deliver, listening
from tests.support.http_server import NO_AUTHORITIES


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
    async with (
        listening("127.0.0.1", "127.0.0.2", "::1") as (listener, port),
        Sender(STRICT, tls=NO_AUTHORITIES) as sender,
    ):
        sent = await deliver(sender, f"http://{host}:{port}/")
        assert isinstance(sent.outcome, Blocked), sent.outcome
        assert "; deliveries reach public addresses only. To allow it, add " in sent.outcome.error
        assert sent.request is None
        await asyncio.sleep(0)
        assert listener.connections == 0
        # The listener itself can be reached: an unguarded request arrives.
        assert (await deliver(sender, f"http://127.0.0.1:{port}/", unguarded=True)).outcome.name == "DELIVERED"
        assert listener.connections == 1


async def test_the_refusal_names_the_address_and_the_setting() -> None:
    async with Sender(STRICT, tls=NO_AUTHORITIES) as sender:
        sent = await deliver(sender, "http://127.0.0.1:9/")
    assert sent.outcome == Blocked(
        "127.0.0.1 is a loopback address; deliveries reach public addresses only. "
        "To allow it, add 127.0.0.0/8 to RINGBACK_DANGEROUS_ALLOW_NETWORKS."
    )


async def test_a_name_that_leads_to_a_blocked_address_is_refused_without_the_address() -> None:
    async with (
        listening("127.0.0.1") as (listener, port),
        Sender(STRICT, lookup=Names(["127.0.0.1", "10.0.0.5"]), tls=NO_AUTHORITIES) as sender,
    ):
        sent = await deliver(sender, f"http://hooks.example:{port}/")
    assert sent.outcome == Blocked(
        "hooks.example resolves to a loopback address; deliveries reach public addresses only. "
        "To allow it, add 127.0.0.0/8,::1/128 to RINGBACK_DANGEROUS_ALLOW_NETWORKS."
    )
    assert listener.connections == 0


async def test_the_log_names_the_address_that_the_outcome_does_not() -> None:
    async with Sender(STRICT, lookup=Names(["10.0.0.5"]), tls=NO_AUTHORITIES) as sender:
        with capture_logs() as lines:
            sent = await deliver(sender, "http://hooks.example/")

    assert sent.outcome.error is not None
    assert "10.0.0.5" not in sent.outcome.error
    assert lines == [
        {
            "event": "an address is refused",
            "log_level": "debug",
            "action": "resolve",
            "host": "hooks.example",
            "port": 80,
            "address": "10.0.0.5",
        }
    ]


PORT_22 = Blocked(
    "Port 22 is not allowed; deliveries reach the ports 80, 443, 1024-65535 only. "
    "To allow it, add it to RINGBACK_ALLOW_PORTS."
)


@pytest.mark.parametrize("host", ["hooks.example", "93.184.215.14", "[2606:4700::1111]"])
async def test_a_port_that_is_not_allowed_is_refused_before_dns(host: str) -> None:
    names = Names(["127.0.0.1"])
    async with Sender(STRICT, lookup=names, tls=NO_AUTHORITIES) as sender:
        sent = await deliver(sender, f"http://{host}:22/")
    assert (sent.outcome, sent.request, names.asked) == (PORT_22, None, 0)


async def test_the_port_of_a_name_is_checked_after_dns_if_a_network_is_allowed() -> None:
    resolver = GuardedResolver(Names(["93.184.215.14", "127.0.0.1"]), ONLY_127_0_0_1)

    assert [result["host"] for result in await resolver.resolve("hooks.example", 22)] == ["127.0.0.1"]
    with pytest.raises(AddressBlocked, match=PORT_22.error):
        await GuardedResolver(Names(["93.184.215.14"]), ONLY_127_0_0_1).resolve("hooks.example", 22)


async def test_the_socket_refuses_a_port_that_is_not_allowed() -> None:
    async with Sender(STRICT, tls=NO_AUTHORITIES) as sender:
        with pytest.raises(AddressBlocked, match=PORT_22.error):
            sender._guarded_socket((socket.AF_INET, socket.SOCK_STREAM, 0, "", ("93.184.215.14", 22)))


async def test_only_the_allowed_addresses_of_a_name_are_tried() -> None:
    async with (
        listening("127.0.0.1") as (allowed, port),
        listening("127.0.0.2", "::1", port=port) as (blocked, _),
        Sender(ONLY_127_0_0_1, lookup=Names(["127.0.0.2", "::1", "127.0.0.1"]), tls=NO_AUTHORITIES) as sender,
    ):
        assert (await deliver(sender, f"http://hooks.example:{port}/")).outcome.name == "DELIVERED"
    assert (allowed.connections, blocked.connections) == (1, 0)


async def test_the_resolver_returns_only_allowed_addresses() -> None:
    resolver = GuardedResolver(Names(["127.0.0.2", "127.0.0.1", "::1", "::ffff:127.0.0.1"]), ONLY_127_0_0_1)

    results = await resolver.resolve("hooks.example", 80)

    assert [result["host"] for result in results] == ["127.0.0.1", "::ffff:127.0.0.1"]


async def test_a_name_that_is_rebound_after_a_delivery_is_judged_anew() -> None:
    names = Names(["127.0.0.1"], ["127.0.0.2"])
    async with (
        listening("127.0.0.1") as (allowed, first_port),
        listening("127.0.0.2") as (blocked, second_port),
        Sender(ONLY_127_0_0_1, lookup=names, tls=NO_AUTHORITIES) as sender,
    ):
        assert (await deliver(sender, f"http://hooks.example:{first_port}/")).outcome.name == "DELIVERED"
        sent = await deliver(sender, f"http://hooks.example:{second_port}/")
    assert sent.outcome == Blocked(
        "hooks.example resolves to a loopback address; deliveries reach public addresses only. "
        "To allow it, add 127.0.0.0/8,::1/128 to RINGBACK_DANGEROUS_ALLOW_NETWORKS."
    )
    assert (names.asked, allowed.connections, blocked.connections) == (2, 1, 0)


@pytest.mark.parametrize("addresses", [["127.0.0.2"], ["127.0.0.2", "127.0.0.3"], ["::1", "127.0.0.2"]])
async def test_the_socket_refuses_addresses_that_no_resolver_refused(addresses: list[str]) -> None:
    # The socket factory alone: the resolver of this pool refuses nothing, as if the name had been rebound since.
    async with listening(*addresses) as (listener, port), Sender(ONLY_127_0_0_1, tls=NO_AUTHORITIES) as sender:
        pool = Pool(GuardedResolver(Names(addresses), None), NO_AUTHORITIES, sender._guarded_socket)
        with pytest.raises(aiohttp.ClientConnectorError) as refused:
            await pool.connect(URL(f"http://hooks.example:{port}/"))
        await pool.close()
        assert str(refused.value.os_error).startswith("The host resolves to a loopback address; deliveries reach")
        assert listener.connections == 0


async def test_the_socket_itself_refuses_literals() -> None:
    # aiohttp resolves no IP literals, so only the socket factory can refuse them.
    async with listening("127.0.0.1", "::1") as (listener, port), Sender(STRICT, tls=NO_AUTHORITIES) as sender:
        for host in ("127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "127。0。0。1"):
            with pytest.raises(aiohttp.ClientConnectorError) as refused:
                await sender._guarded.connect(URL(f"http://{host}:{port}/"))
            assert isinstance(refused.value.os_error, AddressBlocked)
        assert listener.connections == 0


async def test_a_guarded_request_never_uses_an_unguarded_connection() -> None:
    async with listening("127.0.0.1") as (listener, port), Sender(STRICT, tls=NO_AUTHORITIES) as sender:
        url = f"http://127.0.0.1:{port}/"
        assert (await deliver(sender, url, unguarded=True)).outcome.name == "DELIVERED"
        await asyncio.sleep(0.05)
        assert (await deliver(sender, url)).outcome.name == "BLOCKED"
        assert listener.connections == 1
