"""Tests of the rules for URLs and URL templates, each with URLs to refuse and URLs to accept."""

from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from ringback.models.security.inbox_addresses import InboxAddresses
from ringback.models.security.url_rules import (
    MAX_URL_CHARS,
    Endpoint,
    check_partial_url,
    check_url,
    check_url_template,
    count_dot_segments,
    find_endpoint,
    parse_target,
    render_known_url,
)
from ringback.models.templates.known_text import UNKNOWN
from tests.support.unhurried import unhurried


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
        "https://h/.../..a/a../.a/a.?q=/../.",
        "https://h/..%2e/..%252F/a..;/;../a%2Fb..%2F.b%5C..%?q=..%2F..;",
        "https://h/" + "a" * (MAX_URL_CHARS - 10),
    ],
)
def test_urls_that_can_be_delivered_to_are_accepted(url: str) -> None:
    assert check_url(url) == []
    assert URL(url).raw_host


def dot_segment(spelling: str, path_before: str) -> str:
    return (
        f"The path of the URL has the segment {spelling} after {path_before}, and servers resolve it to another path; "
        "write that path."
    )


WHITESPACE = "The URL contains whitespace or control characters; write them percent-encoded."

CREDENTIALS = "The URL carries credentials (user:password@); put them into a header instead."

START = "The URL must start with https:// or http://."


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
        ("hooks.example/in", START),
        ("//hooks.example/in", START),
        ("http:/hooks.example/in", START),
        ("https:hooks.example", START),
        ("ftp://h/", "The URL starts with ftp:, but only https:// and http:// can be delivered to."),
        ("javascript:alert(1)", "The URL starts with javascript:, but only https:// and http:// can be delivered to."),
        ("file:///etc/passwd", "The URL starts with file:, but only https:// and http:// can be delivered to."),
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
        ("https://[::１]/", "[::１] is not an IPv6 address without a zone."),
        ("https://127.1/", "127.1 is an unusual spelling of 127.0.0.1; write it as 127.0.0.1."),
        ("https://0x08080808/", "0x08080808 is an unusual spelling of 8.8.8.8; write it as 8.8.8.8."),
        ("https://%31.2.3.4/", "%31.2.3.4 is an unusual spelling of 1.2.3.4; write it as 1.2.3.4."),
        ("https://1.2.3.4.5/", "1.2.3.4.5 is neither a host name nor an IPv4 address."),
        ("https://example.0x1/", "example.0x1 is neither a host name nor an IPv4 address."),
        ("https://0x/", "0x is neither a host name nor an IPv4 address."),
        ("https://١٢٧.٠.٠.١/", "١٢٧.٠.٠.١ is an unusual spelling of 127.0.0.1; write it as 127.0.0.1."),
        ("https://loc\u00adalhost/", "loc\u00adalhost is not a valid host name."),
        ("https://loc\u200balhost/", "loc\u200balhost is not a valid host name."),
        ("https://%6cocalhost/", "%6cocalhost is not a valid host name."),
        ("https://localhost../", "localhost.. is not a valid host name."),
        ("https://a..b/", "a..b is not a valid host name."),
        ("https://-a.example/", "-a.example is not a valid host name."),
        ("https://*.example/", "*.example is not a valid host name."),
        ("https://a%00b/", "a%00b is not a valid host name."),
        ("https://xn--/", "xn-- is not a valid host name."),
        ("https://" + "a" * 64 + ".example/", "a" * 64 + ".example is not a valid host name."),
        ("https://" + "a." * 127 + "aa/", "a." * 127 + "aa is not a valid host name."),
        ("https://h/a/../b", dot_segment("..", "/a/")),
        ("https://h/..", dot_segment("..", "/")),
        ("https://h/a/./", dot_segment(".", "/a/")),
        ("https://h/a/%2e%2E?q", dot_segment("%2e%2E", "/a/")),
        ("https://h/a/.%2e/b", dot_segment(".%2e", "/a/")),
        ("https://h/%2e/b", dot_segment("%2e", "/")),
        ("https://h/a/..%2F..%2fadmin", dot_segment("..", "/a/")),
        ("https://h/a/b%2F..%2Fadmin", dot_segment("..", "/a/b%2F")),
        ("https://h/a/b%2f%2E%2e", dot_segment("%2E%2e", "/a/b%2f")),
        ("https://h/a/..%5Cadmin", dot_segment("..", "/a/")),
        ("https://h/a/b%5c.", dot_segment(".", "/a/b%5c")),
        ("https://h/a/..\\admin", dot_segment("..", "/a/")),
        ("https://h/a/..;/admin", dot_segment("..", "/a/")),
        ("https://h/a/%2e.;x=1/admin", dot_segment("%2e.", "/a/")),
        ("https://h/a/..%3B%2Fadmin", dot_segment("..", "/a/")),
    ],
)
def test_a_problem_of_a_url_is_reported(url: str, problem: str) -> None:
    assert problem in check_url(url)


def test_all_problems_of_a_url_are_reported_at_once() -> None:
    assert check_url("ftp://u@h/ x") == [
        WHITESPACE,
        "The URL starts with ftp:, but only https:// and http:// can be delivered to.",
        CREDENTIALS,
    ]


@unhurried
@given(st.text(max_size=60) | st.text(max_size=30).map("http://".__add__))
def test_an_accepted_url_has_only_a_scheme_host_path_and_query(url: str) -> None:
    if not check_url(url):
        parsed = URL(url)
        assert parsed.scheme in ("http", "https")
        assert parsed.raw_host
        assert (parsed.raw_user, parsed.raw_password, parsed.raw_fragment) == (None, None, "")


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
        "https://h/.{{ item.x }}/{{ item.y }}./..{{ item.z }}?{{ item.q }}/../",
        "https://h/" + "{{ item.a_long_name_which_renders_short }}" * 60,
    ],
)
def test_templates_that_may_render_to_a_url_are_accepted(url: str) -> None:
    assert check_url_template(url) == []


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("ftp://h/{{ item.x }}", "The URL starts with ftp:, but only https:// and http:// can be delivered to."),
        (
            "javascript:{{ item.x }}",
            "The URL starts with javascript:, but only https:// and http:// can be delivered to.",
        ),
        ("hooks.example/{{ item.x }}", START),
        ("https://u:{{ item.password }}@h/", CREDENTIALS),
        ("https://u@h/{{ item.x }}", CREDENTIALS),
        ("https://h:99999/{{ item.x }}", "The port 99999 is not a number from 1 to 65535."),
        ("https:///{{ item.x }}", "The URL has no host."),
        ("https://127.1/{{ item.x }}", "127.1 is an unusual spelling of 127.0.0.1; write it as 127.0.0.1."),
        ("https://h/a b{{ item.x }}", WHITESPACE),
        ("https://h/{{ item.x }}\n", WHITESPACE),
        ("ftp://plain/", "The URL starts with ftp:, but only https:// and http:// can be delivered to."),
        ("", "The URL is empty."),
        ("https://h/{{ item.x }}/../b", dot_segment("..", "/…/")),
        (f"https://h{UNKNOWN}/{{{{ 1 }}}}", WHITESPACE),
        ("https://{{ item.host }}/{% if item.x %}a/%2e/{% endif %}b", dot_segment("%2e", "/…a/")),
        ("{{ item.base }}/..", dot_segment("..", "…/")),
    ],
)
def test_a_problem_of_a_template_is_reported_before_it_is_rendered(url: str, problem: str) -> None:
    assert check_url_template(url) == [problem]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (f"https://127.1:{UNKNOWN}/", "127.1 is an unusual spelling of 127.0.0.1; write it as 127.0.0.1."),
        (f"http{UNKNOWN}://a..b/", "a..b is not a valid host name."),
        (f"http{UNKNOWN}://u@h/", CREDENTIALS),
        (f"https://{UNKNOWN}@h/", CREDENTIALS),
        (f"https://:80/{UNKNOWN}", "The URL has no host."),
        ("https://a b/", WHITESPACE),
    ],
)
def test_a_problem_of_the_known_part_of_a_url_is_reported(text: str, problem: str) -> None:
    assert problem in check_partial_url(text)


@pytest.mark.parametrize(
    "text",
    [
        f"https://{UNKNOWN}:latest/",
        f"https://h:8{UNKNOWN}x/",
        f"https://[::{UNKNOWN}/",
        f"https://1{UNKNOWN}/",
        f"{UNKNOWN}://1.2.3.4.5/",
    ],
)
def test_the_unknown_part_of_a_url_is_not_a_problem(text: str) -> None:
    assert check_partial_url(text) == []


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        (f"https://hooks.example:8000/{UNKNOWN}", Endpoint("hooks.example", 8_000)),
        ("https://127.0.0.1/", Endpoint("127.0.0.1", 443)),
        ("HTTP://h:/", Endpoint("h", 80)),
        (f"http://[::1]:8000/{UNKNOWN}", Endpoint("::1", 8_000)),
        ("http://ⓛocalho\ufb06/", Endpoint("localhost", 80)),
        (f"https://BÜcher.example:{UNKNOWN}/", Endpoint("xn--bcher-kva.example", None)),
        (f"https://h:8{UNKNOWN}/", Endpoint("h", None)),
        (f"http{UNKNOWN}://h/", Endpoint("h", None)),
        (f"http{UNKNOWN}://h:22/", Endpoint("h", 22)),
        (f"https://{UNKNOWN}/", Endpoint(None, None)),
        (f"https://{UNKNOWN}:22/", Endpoint(None, 22)),
        (f"https://a.{UNKNOWN}/", Endpoint(None, None)),
        (f"https://h{UNKNOWN}", Endpoint(None, None)),
        (f"https://[::{UNKNOWN}", Endpoint(None, None)),
        (UNKNOWN, Endpoint(None, None)),
    ],
)
def test_the_endpoint_is_known_unless_data_decides_it(text: str, endpoint: Endpoint) -> None:
    assert check_partial_url(text) == []
    assert find_endpoint(text) == endpoint


_PIECES = st.sampled_from([
    "http://", "https:", "//", "[", "]", "::1", "%25", "%", ":", "22", "@", "\uff11", "\u3002", "\u00ad", "localhost",
    "127.0.0.1", "0x", "/", "?", "xn--", ".", "\u24db", "\u00df", "\u200d", "\u0660", "-", "_", "\u2100",
    UNKNOWN,
])  # fmt: skip


@unhurried
@given(st.lists(_PIECES, max_size=8).map("".join), st.sampled_from(["", "http://", f"http{UNKNOWN}://"]))
def test_every_url_that_is_not_refused_has_an_endpoint(rest: str, start: str) -> None:
    if not check_partial_url(start + rest):
        host, port = find_endpoint(start + rest)
        assert host is None or host.isascii()
        assert port is None or 1 <= port <= 65_535


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("https://{{ 'hooks' }}.example/{{ item.id }}", f"https://hooks.example/{UNKNOWN}"),
        ("{% assign h = 'a.example' %}\n https://{{ h }}/ ", "https://a.example/"),
        ("https://h/{{ item.x }}{{ broken", f"https://h/{UNKNOWN}{{{{ broken"),
    ],
)
def test_constants_of_a_url_are_rendered(url: str, text: str) -> None:
    assert render_known_url(url) == text


@pytest.mark.parametrize(
    ("url", "path_and_query", "text"),
    [
        ("https://h/hook/%3Akey%40?sp=%2Fa", "/hook/%3Akey%40?sp=%2Fa", "https://h/hook/%3Akey%40?sp=%2Fa"),
        ("https://h/a%21b?", "/a%21b?", "https://h/a%21b?"),
        ("https://h", "/", "https://h/"),
        ("https://h?", "/?", "https://h/?"),
        ("https://h?a=b?c", "/?a=b?c", "https://h/?a=b?c"),
        ("https://h//a//?", "//a//?", "https://h//a//?"),
        ("https://h/50%?%zz=+%4", "/50%25?%25zz=+%254", "https://h/50%25?%25zz=+%254"),
        ("https://h/%%41%4a", "/%25%41%4a", "https://h/%25%41%4a"),
        ('https://h/"<>^`?{|}', "/%22%3C%3E%5E%60?%7B%7C%7D", "https://h/%22%3C%3E%5E%60?%7B%7C%7D"),
        ("https://h/~'()*,;=!$[]&+:@-._", "/~'()*,;=!$[]&+:@-._", "https://h/~'()*,;=!$[]&+:@-._"),
        ("HTTPS://BÜcher.example:8080/Ж?ж", "/%D0%96?%D0%B6", "https://xn--bcher-kva.example:8080/%D0%96?%D0%B6"),
        ("http://[::1]:/x", "/x", "http://[::1]/x"),
    ],
)
def test_path_and_query_stay_as_written(url: str, path_and_query: str, text: str) -> None:
    assert check_url(url) == []

    target = parse_target(url)

    assert (target.path_and_query, target.text) == (path_and_query, text)


@unhurried
@given(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters='#\\"<>^`{|}%'), max_size=40))
def test_the_characters_of_urls_are_sent_byte_for_byte(rest: str) -> None:
    url = f"https://hooks.example/{rest}"
    if not check_url(url):
        assert parse_target(url).path_and_query == f"/{rest}"
        assert parse_target(url).origin.host == "hooks.example"


@unhurried
@given(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="#\\"), max_size=40))
def test_percent_encoding_neither_loses_a_character_nor_encodes_one_twice(rest: str) -> None:
    url = f"https://hooks.example/{rest}"
    if not check_url(url):
        target = parse_target(url)
        assert unquote(target.path_and_query) == unquote(f"/{rest}")
        assert parse_target(target.text) == target


_INBOX_PIECES = st.sampled_from(["/", "inbox", "%69nbox", "INBOX", "%2F", ".", "%2e", "%25", "?", "token", "%74oken"])


@unhurried
@given(st.lists(_INBOX_PIECES, max_size=8).map("".join))
def test_a_url_that_counts_as_an_inbox_is_sent_to_that_inbox(rest: str) -> None:
    """The guard lets requests to inboxes of this server pass."""
    url = f"http://shop.example:8000/inbox/{rest}"
    if check_url(url):
        return
    target = parse_target(url)
    token = InboxAddresses("http://shop.example:8000").token(URL(target.text))
    if token is not None:
        assert unquote(target.path_and_query.partition("?")[0]) == f"/inbox/{token}"


_PATH_PIECES = st.sampled_from(["/", "/", "%2F", "%5c", ";", "%3b", ".", "%2e", "%2E.", "a", "%25", "?"])


@unhurried
@given(st.lists(_PATH_PIECES, max_size=10).map("".join))
def test_a_url_with_dot_segments_in_its_path_is_refused(rest: str) -> None:
    url = f"https://hooks.example/{rest}"
    decoded = unquote(rest.partition("?")[0].replace("%25", "a"))
    segments = [segment.partition(";")[0] for segment in decoded.replace("\\", "/").split("/")]

    assert bool(check_url(url)) == ("." in segments or ".." in segments)
    assert count_dot_segments(url) == segments.count(".") + segments.count("..")


@pytest.mark.parametrize(
    ("url", "path_and_query"),
    [
        ("https://h/a/../b?q=/../", "/b?q=/../"),
        ("https://h/a/b/%2E%2e", "/a/"),
        ("https://h/../../a/./", "/a/"),
        ("https://h/.", "/"),
        ("https://h/a/..%2Fb/..;c", "/a/..%2Fb/..;c"),
    ],
)
def test_dot_segments_saved_before_they_were_refused_are_resolved(url: str, path_and_query: str) -> None:
    assert check_url(url, allowed_dot_segments=count_dot_segments(url)) == []
    assert parse_target(url).path_and_query == path_and_query
