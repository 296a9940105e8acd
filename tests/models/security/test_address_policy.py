"""Tests of the address policy, by address and by host, each rule with addresses to refuse and addresses to allow."""

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringback.models.security.address_policy import Address, AddressPolicy, parse_literal_address
from tests.support.unhurried import unhurried

STRICT = AddressPolicy()


def hint(network: str) -> str:
    return f"deliveries reach public addresses only. To allow it, add {network} to RINGBACK_DANGEROUS_ALLOW_NETWORKS."


def allowing(*networks: str) -> AddressPolicy:
    return AddressPolicy(tuple(ip_network(network) for network in networks))


def permits(policy: AddressPolicy, address: str) -> bool:
    return policy.refusal(ip_address(address)) is None


BLOCKED = [
    ("0.0.0.0", "the unspecified address"),
    ("0.1.2.3", "an address of “this network”"),
    ("10.0.0.5", "a private address"),
    ("100.64.0.1", "a carrier-grade NAT address"),
    ("100.100.100.200", "a carrier-grade NAT address"),
    ("127.0.0.1", "a loopback address"),
    ("127.255.255.254", "a loopback address"),
    ("168.63.129.16", "a cloud platform's internal address"),
    ("169.254.0.1", "a link-local address"),
    ("169.254.169.254", "the cloud metadata address"),
    ("172.16.0.1", "a private address"),
    ("172.31.255.255", "a private address"),
    ("192.0.0.8", "an IETF protocol address"),
    ("192.0.0.192", "an IETF protocol address"),
    ("192.0.2.1", "a documentation address"),
    ("192.31.196.1", "an AS112 address"),
    ("192.52.193.1", "an AMT relay address"),
    ("192.88.99.1", "a 6to4 relay address"),
    ("192.168.1.1", "a private address"),
    ("192.175.48.1", "an AS112 address"),
    ("198.18.0.1", "a benchmarking address"),
    ("198.19.255.255", "a benchmarking address"),
    ("198.51.100.1", "a documentation address"),
    ("203.0.113.1", "a documentation address"),
    ("224.0.0.1", "a multicast address"),
    ("239.255.255.255", "a multicast address"),
    ("240.0.0.1", "a reserved address"),
    ("255.255.255.255", "the broadcast address"),
    ("::", "the unspecified address"),
    ("::1", "a loopback address"),
    ("64:ff9b::808:808", "a NAT64 address"),
    ("64:ff9b:1::1", "a NAT64 address"),
    ("100::1", "a discard-only address"),
    ("100:0:0:1::1", "a dummy address"),
    ("2001::1", "a Teredo address"),
    ("2001:1::1", "an IETF protocol address"),
    ("2001:2::1", "a benchmarking address"),
    ("2001:10::1", "an ORCHID address"),
    ("2001:20::1", "an ORCHID address"),
    ("2001:30::1", "an IETF protocol address"),
    ("2001:db8::1", "a documentation address"),
    ("2002:7f00:1::1", "a 6to4 address"),
    ("2620:4f:8000::1", "an AS112 address"),
    ("3fff::1", "a documentation address"),
    ("5f00::1", "a segment-routing address"),
    ("fc00::1", "a private (unique local) address"),
    ("fd00:ec2::254", "the cloud metadata address"),
    ("fe80::1", "a link-local address"),
    ("fe80::1%eth0", "a link-local address"),
    ("fec0::1", "a site-local address"),
    ("ff02::1", "a multicast address"),
    ("4000::1", "not a global unicast address"),
    ("::ffff:0:8.8.8.8", "not a global unicast address"),
]

PUBLIC = [
    "1.1.1.1",
    "8.8.8.8",
    "9.255.255.255",
    "11.0.0.0",
    "100.63.255.255",
    "100.128.0.0",
    "126.255.255.255",
    "128.0.0.0",
    "168.63.129.17",
    "172.15.255.255",
    "172.32.0.0",
    "198.17.255.255",
    "198.20.0.0",
    "223.255.255.255",
    "2001:200::1",
    "2001:4860:4860::8888",
    "2606:4700::1111",
    "2a00:1450::1",
    "3ffe:ffff::1",
    "::ffff:8.8.8.8",
]


@pytest.mark.parametrize(("address", "kind"), BLOCKED)
def test_an_address_that_is_not_public_unicast_is_refused_with_its_kind(address: str, kind: str) -> None:
    refusal = STRICT.refusal(ip_address(address))

    assert refusal is not None
    assert refusal.startswith(f"{ip_address(address)} is {kind}; deliveries reach public addresses only. ")


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("127.0.0.2", "127.0.0.0/8"),
        ("::ffff:127.0.0.2", "127.0.0.0/8"),
        ("::1", "::1/128"),
        ("10.0.0.5", "10.0.0.5/32"),
        ("::ffff:10.0.0.5", "10.0.0.5/32"),
        ("::127.0.0.1", "::7f00:1/128"),
        ("fd00::5", "fd00::5/128"),
    ],
)
def test_a_refusal_names_a_network_that_allows_the_address(address: str, network: str) -> None:
    refusal = STRICT.refusal(ip_address(address))

    assert refusal is not None
    assert refusal.endswith(hint(network))
    assert allowing(network).refusal(ip_address(address)) is None


@pytest.mark.parametrize("address", PUBLIC)
def test_public_unicast_addresses_are_allowed(address: str) -> None:
    assert STRICT.refusal(ip_address(address)) is None


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("::ffff:10.0.0.5", "::ffff:a00:5 (10.0.0.5) is a private address; "),
        ("::ffff:169.254.169.254", "::ffff:a9fe:a9fe (169.254.169.254) is the cloud metadata address; "),
        ("::127.0.0.1", "::7f00:1 (127.0.0.1) is a loopback address; "),
        ("::8.8.8.8", "::808:808 (8.8.8.8) is a deprecated IPv4-compatible address; "),
    ],
)
def test_an_ipv4_address_inside_an_ipv6_address_is_checked(address: str, sentence: str) -> None:
    refusal = STRICT.refusal(ip_address(address))

    assert refusal is not None
    assert refusal.startswith(sentence)


def test_a_refusal_names_the_host_and_not_the_address_that_it_resolves_to() -> None:
    assert STRICT.refusal(ip_address("10.0.0.5"), name="hooks.example") == (
        f"hooks.example resolves to a private address; {hint('its network')}"
    )
    assert STRICT.refusal(ip_address("::1"), name="hooks.example") == (
        f"hooks.example resolves to a loopback address; {hint('127.0.0.0/8,::1/128')}"
    )


ALLOWED_PORTS = [80, 443, 1_024, 6_379, 65_535]
REFUSED_PORTS = [1, 22, 25, 79, 81, 110, 442, 444, 1_023]


@pytest.mark.parametrize("port", ALLOWED_PORTS)
def test_a_port_that_no_system_service_has_is_allowed(port: int) -> None:
    assert STRICT.refusal(ip_address("8.8.8.8"), port) is None
    assert STRICT.check_host("hooks.example", port) is None
    assert STRICT.check_port(port) is None


@pytest.mark.parametrize("port", REFUSED_PORTS)
def test_any_other_port_is_refused(port: int) -> None:
    sentence = (
        f"Port {port} is not allowed; deliveries reach the ports 80, 443, 1024-65535 only. "
        "To allow it, add it to RINGBACK_ALLOW_PORTS."
    )
    assert STRICT.refusal(ip_address("8.8.8.8"), port) == sentence
    assert STRICT.refusal(ip_address("8.8.8.8"), port, name="hooks.example") == sentence
    assert STRICT.check_host("8.8.8.8", port) == sentence
    assert STRICT.check_host("hooks.example", port) == sentence
    assert STRICT.check_port(port) == sentence


def test_an_allowed_network_is_reached_at_any_port() -> None:
    policy = allowing("10.0.0.0/8")
    assert policy.refusal(ip_address("10.0.0.5"), 22) is None
    assert policy.check_host("10.0.0.5", 22) is None
    assert policy.refusal(ip_address("8.8.8.8"), 22) is not None
    assert policy.check_host("8.8.8.8", 22) is not None


def test_the_port_of_a_name_that_may_lead_to_an_allowed_network_is_checked_after_dns() -> None:
    policy = allowing("10.0.0.0/8")
    assert policy.check_host("hooks.example", 22) is None
    assert policy.check_port(22) is None
    assert policy.refusal(ip_address("8.8.8.8"), 22, name="hooks.example") is not None


def test_the_operator_chooses_the_ports() -> None:
    policy = AddressPolicy(ports=(range(22, 23), range(8_000, 8_010)))
    assert policy.check_host("hooks.example", 22) is None
    assert policy.check_host("hooks.example", 8_009) is None
    assert policy.check_host("hooks.example", 8_010) == (
        "Port 8010 is not allowed; deliveries reach the ports 22, 8000-8009 only. "
        "To allow it, add it to RINGBACK_ALLOW_PORTS."
    )


def test_an_allowed_network_opens_its_addresses_and_no_others() -> None:
    policy = allowing("10.1.0.0/16", "fd00::/8")
    assert permits(policy, "10.1.255.255")
    assert permits(policy, "fd12::1")
    assert not permits(policy, "10.2.0.0")
    assert not permits(policy, "fc00::1")
    assert not permits(policy, "127.0.0.1")


def test_an_allowed_ipv4_network_opens_the_mapped_form_only() -> None:
    policy = allowing("127.0.0.0/8")
    assert permits(policy, "::ffff:127.0.0.1")
    assert not permits(policy, "::127.0.0.1")
    assert not permits(policy, "64:ff9b::7f00:1")
    assert not permits(policy, "2002:7f00:1::")
    assert not permits(policy, "::1")


@unhurried
@given(st.ip_addresses())
def test_every_address_that_python_calls_private_is_refused(address: Address) -> None:
    if not address.is_global or address.is_multicast:
        assert STRICT.refusal(address) is not None


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.1.", "127.0.0.1"),
        ("2130706433", "127.0.0.1"),
        ("017700000001", "127.0.0.1"),
        ("0x7f000001", "127.0.0.1"),
        ("0X7F.1", "127.0.0.1"),
        ("0177.0.0.1", "127.0.0.1"),
        ("127.1", "127.0.0.1"),
        ("127.0.1", "127.0.0.1"),
        ("0", "0.0.0.0"),
        ("127。0。0。1", "127.0.0.1"),
        ("127｡0｡0｡1", "127.0.0.1"),
        ("１２７．０．０．１", "127.0.0.1"),
        ("①②⑦.0.0.1", "127.0.0.1"),
        ("%31%32%37.0.0.1", "127.0.0.1"),
        ("127\u20240\u20240\u20241", "127.0.0.1"),
        ("١٢٧.٠.٠.١", "127.0.0.1"),
        ("१२७。०。०。१", "127.0.0.1"),
        ("𝟏𝟐𝟕.𝟎.𝟎.𝟏", "127.0.0.1"),
        ("[::1]", "::1"),
        ("::1", "::1"),
        ("[::ffff:127.0.0.1]", "::ffff:127.0.0.1"),
        ("[0:0:0:0:0:ffff:7f00:1]", "::ffff:127.0.0.1"),
        ("[fe80::1%25eth0]", "fe80::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("8.8.8.8", "8.8.8.8"),
    ],
)
def test_every_spelling_of_an_address_is_recognized(host: str, address: str) -> None:
    assert parse_literal_address(host) == ip_address(address)


@pytest.mark.parametrize(
    "host", ["", "localhost", "example.com", "1.example.com", "0xzz", "1.2.3.4.5", "256.0.0.1", "4294967296", "a", "[]"]
)
def test_a_name_is_not_an_address(host: str) -> None:
    assert parse_literal_address(host) is None


@pytest.mark.parametrize(
    ("host", "sentence", "network"),
    [
        ("127.0.0.1", "127.0.0.1 is a loopback address; ", "127.0.0.0/8"),
        ("[::1]", "::1 is a loopback address; ", "::1/128"),
        ("127.1", "127.0.0.1 is a loopback address; ", "127.0.0.0/8"),
        ("localhost", "localhost resolves to a loopback address; ", "127.0.0.0/8,::1/128"),
        ("LOCALHOST.", "LOCALHOST. resolves to a loopback address; ", "127.0.0.0/8,::1/128"),
        ("a.b.localhost", "a.b.localhost resolves to a loopback address; ", "127.0.0.0/8,::1/128"),
    ],
)
def test_a_host_that_is_known_without_dns_is_refused(host: str, sentence: str, network: str) -> None:
    assert STRICT.check_host(host) == sentence + hint(network)


@pytest.mark.parametrize("host", ["example.com", "localhost.example", "notlocalhost", "8.8.8.8", "[2606:4700::1111]"])
def test_other_hosts_are_not_refused_before_dns(host: str) -> None:
    assert STRICT.check_host(host) is None


def test_localhost_is_allowed_when_either_loopback_network_is() -> None:
    assert allowing("127.0.0.0/8").check_host("localhost") is None
    assert allowing("::1/128").check_host("localhost") is None
    assert allowing("10.0.0.0/8").check_host("localhost") is not None
