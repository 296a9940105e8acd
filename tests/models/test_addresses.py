"""The address policy and the checks of URLs: each rule with what it must refuse and what it must let through."""

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from ringback.models.addresses import (
    MAX_URL_CHARS,
    Address,
    AddressPolicy,
    check_url,
    check_url_template,
    literal_address,
    static_host,
)
from ringback.models.errors import AddressBlocked

STRICT = AddressPolicy()
HINT = "deliveries reach public addresses only. To allow it, add its network to RINGBACK_DANGEROUS_ALLOW_NETWORKS."


def allowing(*networks: str) -> AddressPolicy:
    return AddressPolicy(tuple(ip_network(network) for network in networks))


def permits(policy: AddressPolicy, address: str) -> bool:
    try:
        policy.check(ip_address(address))
    except AddressBlocked:
        return False
    return True


# -------------------------------------------------------------------------------------------------------------- policy

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
def test_refuses_what_is_not_public_unicast_and_says_what_it_is(address: str, kind: str) -> None:
    with pytest.raises(AddressBlocked) as refused:
        STRICT.check(ip_address(address))
    assert str(refused.value) == f"{ip_address(address)} is {kind}; {HINT}"


@pytest.mark.parametrize("address", PUBLIC)
def test_lets_public_unicast_through(address: str) -> None:
    STRICT.check(ip_address(address))


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("::ffff:10.0.0.5", "::ffff:a00:5 (10.0.0.5) is a private address; "),
        ("::ffff:169.254.169.254", "::ffff:a9fe:a9fe (169.254.169.254) is the cloud metadata address; "),
        ("::127.0.0.1", "::7f00:1 (127.0.0.1) is a loopback address; "),
        ("::8.8.8.8", "::808:808 (8.8.8.8) is a deprecated IPv4-compatible address; "),
    ],
)
def test_judges_the_ipv4_address_inside_an_ipv6_address(address: str, sentence: str) -> None:
    assert STRICT.refusal(ip_address(address)) == sentence + HINT


def test_a_refusal_names_the_host_that_led_to_the_address() -> None:
    assert STRICT.refusal(ip_address("10.0.0.5"), "hooks.example") == (
        f"hooks.example → 10.0.0.5 is a private address; {HINT}"
    )


@pytest.mark.parametrize("literal", ["10.0.0.5", "[::1]"])
def test_a_refusal_does_not_repeat_a_host_that_is_the_address(literal: str) -> None:
    address = literal_address(literal)
    assert address is not None
    assert STRICT.refusal(address, literal) == STRICT.refusal(address)


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


@given(st.ip_addresses())
def test_whatever_python_calls_private_is_refused(address: Address) -> None:
    if not address.is_global or address.is_multicast:
        assert STRICT.refusal(address) is not None


# --------------------------------------------------------------------------------------------------------------- hosts


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
        ("[::1]", "::1"),
        ("::1", "::1"),
        ("[::ffff:127.0.0.1]", "::ffff:127.0.0.1"),
        ("[0:0:0:0:0:ffff:7f00:1]", "::ffff:127.0.0.1"),
        ("[fe80::1%25eth0]", "fe80::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("8.8.8.8", "8.8.8.8"),
    ],
)
def test_reads_every_spelling_of_an_address(host: str, address: str) -> None:
    assert literal_address(host) == ip_address(address)


@pytest.mark.parametrize(
    "host", ["", "localhost", "example.com", "1.example.com", "0xzz", "1.2.3.4.5", "256.0.0.1", "4294967296", "a", "[]"]
)
def test_takes_no_name_for_an_address(host: str) -> None:
    assert literal_address(host) is None


@pytest.mark.parametrize(
    ("host", "sentence"),
    [
        ("127.0.0.1", "127.0.0.1 is a loopback address; "),
        ("[::1]", "::1 is a loopback address; "),
        ("127.1", "127.0.0.1 is a loopback address; "),
        ("localhost", "localhost → 127.0.0.1 is a loopback address; "),
        ("LOCALHOST.", "LOCALHOST. → 127.0.0.1 is a loopback address; "),
        ("a.b.localhost", "a.b.localhost → 127.0.0.1 is a loopback address; "),
    ],
)
def test_refuses_a_host_that_is_known_without_dns(host: str, sentence: str) -> None:
    assert STRICT.refusal_for_host(host) == sentence + HINT


@pytest.mark.parametrize("host", ["example.com", "localhost.example", "notlocalhost", "8.8.8.8", "[2606:4700::1111]"])
def test_leaves_other_hosts_to_the_guard_at_send(host: str) -> None:
    assert STRICT.refusal_for_host(host) is None


def test_localhost_will_do_when_either_loopback_is_open() -> None:
    assert allowing("127.0.0.0/8").refusal_for_host("localhost") is None
    assert allowing("::1/128").refusal_for_host("localhost") is None
    assert allowing("10.0.0.0/8").refusal_for_host("localhost") is not None


# ---------------------------------------------------------------------------------------------------------------- URLs


@pytest.mark.parametrize(
    "url",
    [
        "https://hooks.example/in",
        "HTTP://hooks.example",
        "http://localhost:8000/x?y=1&z=%20",
        "https://bücher.example/путь?ключ=знач",
        "https://xn--bcher-kva.example",
        "http://under_score.internal/x",
        "http://receiver:65535/",
        "http://receiver:/",
        "https://example.com./",
        "http://127.0.0.1/",
        "http://[::1]:8000/x",
        "http://[::ffff:127.0.0.1]/",
        "http://127。0。0。1/",
        "https://h/a:b@c//d?e=f:g@h",
        "https://h/{x}|~'()*,;=!$[]",
        "https://h/" + "a" * (MAX_URL_CHARS - 10),
    ],
)
def test_accepts_urls_that_can_be_delivered_to(url: str) -> None:
    assert check_url(url) == []
    assert URL(url).raw_host


WHITESPACE = "The URL contains whitespace or control characters; write them percent-encoded."
CREDENTIALS = "The URL carries credentials (user:password@); put them into a header instead."
BEGINNING = "The URL must begin with https:// or http://."


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("", "The URL is empty."),
        ("https://h/" + "a" * (MAX_URL_CHARS - 9), "The URL is 2,049 characters long; at most 2,048 are allowed."),
        ("https://h/a b", WHITESPACE),
        (" https://h/", WHITESPACE),
        ("https://h/\r\nX: y", WHITESPACE),
        ("ht\ntps://h/", WHITESPACE),
        ("https://h/\t", WHITESPACE),
        ("https://h/\x00", WHITESPACE),
        ("https://h/\u200b", WHITESPACE),
        ("https://h/\xa0", WHITESPACE),
        ("https://h/\ud800", WHITESPACE),
        ("https://h\\@evil.example/", "The URL contains a backslash; write %5C, or / where a slash is meant."),
        ("https://h/#x", "The URL contains a #, and what follows it is never sent; write %23 to mean the character."),
        ("hooks.example/in", BEGINNING),
        ("//hooks.example/in", BEGINNING),
        ("http:/hooks.example/in", BEGINNING),
        ("https:hooks.example", BEGINNING),
        ("ftp://h/", "The URL begins with ftp:, but only https:// and http:// can be delivered to."),
        ("javascript:alert(1)", "The URL begins with javascript:, but only https:// and http:// can be delivered to."),
        ("file:///etc/passwd", "The URL begins with file:, but only https:// and http:// can be delivered to."),
        ("https://", "The URL has no host."),
        ("https:///x", "The URL has no host."),
        ("https://:8000/", "The URL has no host."),
        ("https://user@h/", CREDENTIALS),
        ("https://user:pw@h/", CREDENTIALS),
        ("https://@h/", CREDENTIALS),
        ("https://h:0/", "The port 0 is not a number from 1 to 65535."),
        ("https://h:65536/", "The port 65536 is not a number from 1 to 65535."),
        ("https://h:x/", "The port x is not a number from 1 to 65535."),
        ("https://h:-1/", "The port -1 is not a number from 1 to 65535."),
        ("https://h:٨٠/", "The port ٨٠ is not a number from 1 to 65535."),
        ("https://a:1:2/", "The port 1:2 is not a number from 1 to 65535."),
        ("https://[::1/", "[::1 is not a host with an optional port."),
        ("https://::1/", "The URL has no host."),
        ("https://[example.com]/", "[example.com] is not an IPv6 address without a zone."),
        ("https://[127.0.0.1]/", "[127.0.0.1] is not an IPv6 address without a zone."),
        ("https://[fe80::1%25eth0]/", "[fe80::1%25eth0] is not an IPv6 address without a zone."),
        ("https://127.1/", "127.1 is an unusual spelling of 127.0.0.1; write it as 127.0.0.1."),
        ("https://0x08080808/", "0x08080808 is an unusual spelling of 8.8.8.8; write it as 8.8.8.8."),
        ("https://%31.2.3.4/", "%31.2.3.4 is an unusual spelling of 1.2.3.4; write it as 1.2.3.4."),
        ("https://1.2.3.4.5/", "1.2.3.4.5 is neither a host name nor an IPv4 address."),
        ("https://example.0x1/", "example.0x1 is neither a host name nor an IPv4 address."),
        ("https://a..b/", "a..b is not a valid host name."),
        ("https://-a.example/", "-a.example is not a valid host name."),
        ("https://*.example/", "*.example is not a valid host name."),
        ("https://a%00b/", "a%00b is not a valid host name."),
        ("https://xn--/", "xn-- is not a valid host name."),
        ("https://" + "a" * 64 + ".example/", "a" * 64 + ".example is not a valid host name."),
        ("https://" + "a." * 127 + "aa/", "a." * 127 + "aa is not a valid host name."),
    ],
)
def test_says_what_is_wrong_with_a_url(url: str, problem: str) -> None:
    assert problem in check_url(url)


def test_says_all_that_is_wrong_at_once() -> None:
    assert check_url("ftp://u@h/ x") == [
        WHITESPACE,
        "The URL begins with ftp:, but only https:// and http:// can be delivered to.",
        CREDENTIALS,
    ]


@given(st.text(max_size=60) | st.text(max_size=30).map("http://".__add__))
def test_a_url_without_problems_has_a_scheme_and_a_host_and_hides_nothing(url: str) -> None:
    if not check_url(url):
        parsed = URL(url)
        assert parsed.scheme in ("http", "https")
        assert parsed.raw_host
        assert (parsed.raw_user, parsed.raw_password, parsed.raw_fragment) == (None, None, "")


# ----------------------------------------------------------------------------------------------------------- templates


@pytest.mark.parametrize(
    "url",
    [
        "https://h/{{ item.name | url_encode }}?x={{ item.id }}",
        "https://{{ item.host }}/x",
        "https://{{ item.host }}:{{ item.port }}/x",
        "{{ item.callback_url }}",
        "{{ item.base }}/users/a@b",
        "http{% if item.secure %}s{% endif %}://h/",
        "https:{{ item.rest }}",
        "{%- assign a = 1 -%} https://h/{{ a }}",
        "{% if a %}https://a/{% else %}http://b/{% endif %}",
        "https://h/plain",
        "https://h/" + "{{ item.a_long_name_which_renders_short }}" * 60,
    ],
)
def test_accepts_url_templates_that_may_render_to_a_url(url: str) -> None:
    assert check_url_template(url) == []


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("ftp://h/{{ item.x }}", "The URL begins with ftp:, but only https:// and http:// can be delivered to."),
        (
            "javascript:{{ item.x }}",
            "The URL begins with javascript:, but only https:// and http:// can be delivered to.",
        ),
        ("hooks.example/{{ item.x }}", BEGINNING),
        ("https://u:{{ item.password }}@h/", CREDENTIALS),
        ("https://u@h/{{ item.x }}", CREDENTIALS),
        ("https://h:99999/{{ item.x }}", "The port 99999 is not a number from 1 to 65535."),
        ("https:///{{ item.x }}", "The URL has no host."),
        ("https://127.1/{{ item.x }}", "127.1 is an unusual spelling of 127.0.0.1; write it as 127.0.0.1."),
        ("https://h/a b{{ item.x }}", WHITESPACE),
        ("https://h/{{ item.x }}\n", WHITESPACE),
        ("ftp://plain/", "The URL begins with ftp:, but only https:// and http:// can be delivered to."),
        ("", "The URL is empty."),
    ],
)
def test_says_what_is_wrong_with_a_url_template_before_it_is_rendered(url: str, problem: str) -> None:
    assert check_url_template(url) == [problem]


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://hooks.example:8000/{{ item.x }}", "hooks.example"),
        ("https://127.0.0.1/", "127.0.0.1"),
        ("http://[::1]:8000/{{ item.x }}", "[::1]"),
        ("http://u:p@10.0.0.1/", "10.0.0.1"),
        ("https://{{ item.host }}/", None),
        ("https://a.{{ item.zone }}/", None),
        ("{{ item.url }}", None),
        ("no url", None),
        ("https://", None),
    ],
)
def test_knows_the_host_that_no_liquid_writes(url: str, host: str | None) -> None:
    assert static_host(url) == host
