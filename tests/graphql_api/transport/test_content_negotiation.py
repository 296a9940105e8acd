"""Content negotiation by RFC 9110 (12.5.1), and which requests are JSON."""

import pytest

from ringback.graphql_api.transport.content_negotiation import Format, is_json, negotiate
from tests.support.cpu import ordinary_seconds

JSON, RESPONSE, EVENTS, MULTIPART = Format.JSON, Format.RESPONSE, Format.EVENTS, Format.MULTIPART
APOLLO = (
    b"multipart/mixed;boundary=graphql;subscriptionSpec=1.0,application/graphql-response+json,application/json;q=0.9"
)
URQL = (
    b"application/graphql-response+json, application/graphql+json, application/json, text/event-stream, multipart/mixed"
)


@pytest.mark.parametrize(
    ("accept", "result", "stream"),
    [
        (None, JSON, None),
        (b"", JSON, None),
        (b"*/*", JSON, None),
        (b"application/*", JSON, None),
        (b"application/json", JSON, None),
        (b"application/graphql-response+json", RESPONSE, None),
        (b"APPLICATION/GraphQL-Response+JSON", RESPONSE, None),
        # A named type precedes one covered by a wildcard.
        (b"*/*, application/graphql-response+json", RESPONSE, None),
        (b"application/*, application/graphql-response+json", RESPONSE, None),
        (b"application/graphql-response+json, application/json", RESPONSE, None),
        (b"application/json, application/graphql-response+json", JSON, None),
        (b"application/graphql-response+json; charset=utf-8, application/json; charset=utf-8", RESPONSE, None),
        # Weight precedes order.
        (b"application/json;q=0.9, application/graphql-response+json", RESPONSE, None),
        (b"application/graphql-response+json;q=0.001, application/json;q=0.002", JSON, None),
        (b"application/graphql-response+json;Q=0.5,*/*;q=0.4", RESPONSE, None),
        # Only the most specific range counts.
        (b"application/json;q=0, */*", RESPONSE, None),
        (b"*/*;q=0, application/json;q=0.1", JSON, None),
        (b"application/json;q=0.1, application/json", JSON, None),
        (b"application/*;q=0, */*", None, None),
        (b"application/json;q=0", None, None),
        (b"*/*;q=0.000", None, None),
        # Charsets and other parameters.
        (b"application/json;charset=utf-16", None, None),
        (b"application/json;charset=utf-16, application/graphql-response+json;q=0.1", RESPONSE, None),
        (b'application/json ; charset="UTF-8" ; indent=2', JSON, None),
        (b'application/json;note="a,b;q=0", text/html', JSON, None),
        (b'application/json;note="a\\",b"', JSON, None),
        (b"application/json;", JSON, None),
        # Malformed ranges are ignored.
        (b"application/json;q=2", None, None),
        (b"application/json;q=0.1234", None, None),
        (b"application/json;q=-1, application/graphql-response+json", RESPONSE, None),
        (b"application/json;q", None, None),
        (b"json, application/graphql-response+json", RESPONSE, None),
        (b",,application/json,,", JSON, None),
        (b'application/json;x="', None, None),
        (b"application/json \xff", None, None),
        (b"text/html", None, None),
        # Streams must be named.
        (b"text/event-stream", EVENTS, EVENTS),
        (b"text/event-stream;charset=utf-8", EVENTS, EVENTS),
        (b"text/*", None, None),
        (b"text/event-stream;q=0, */*", JSON, None),
        (b"application/json, text/event-stream", JSON, EVENTS),
        (b"text/event-stream, application/json;q=0.5", EVENTS, EVENTS),
        (b"multipart/mixed", None, None),
        (b"multipart/mixed;subscriptionSpec=2.0", None, None),
        (b'multipart/mixed;deferSpec="20220824", application/json', JSON, None),
        (b'multipart/mixed;boundary="graphql";subscriptionSpec="1.0"', None, MULTIPART),
        (b'multipart/mixed;boundary="graphql";subscriptionSpec="1.0", application/json', JSON, MULTIPART),
        (b"multipart/mixed;subscriptionspec=1.0;q=0.5, text/event-stream;q=0.4", EVENTS, MULTIPART),
        (b"text/event-stream, multipart/mixed", EVENTS, EVENTS),
        (APOLLO, RESPONSE, MULTIPART),
        (URQL, RESPONSE, EVENTS),
    ],
)  # fmt: skip
def test_accept_decides_the_formats(accept: bytes | None, result: Format | None, stream: Format | None) -> None:
    accepted = negotiate(accept)
    assert (accepted.result, accepted.stream) == (result, stream)
    assert accepted.error is (result if result in (JSON, RESPONSE) else JSON)


@pytest.mark.parametrize(
    ("accept", "page", "page_with_query"),
    [
        (None, True, False),
        (b"*/*", True, False),
        (b"text/*", True, True),
        (b"text/html", True, True),
        (b"text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8", True, True),
        (b"text/html;q=0.5, */*;q=0.4", True, True),
        (b"text/html;q=0, */*", False, False),
        (b"application/json, text/html", False, False),
        (b"application/json, text/plain, */*", False, False),
        (b"text/event-stream", False, False),
    ],
)
def test_accept_decides_whether_the_page_is_sent(accept: bytes | None, page: bool, page_with_query: bool) -> None:
    accepted = negotiate(accept)
    assert (accepted.page, accepted.page_with_query) == (page, page_with_query)


@pytest.mark.parametrize(
    "accept",
    [
        b'application/json;a="' + b"\\" * 490,
        b";" * 510,
        b" " * 510 + b"x",
        b"a/b;" + b" ;" * 250,
        b"x/*," * 127,
        b"x/*," * 1_000,
    ],
)
@pytest.mark.measures_cpu
def test_a_hostile_header_is_parsed_quickly(accept: bytes) -> None:
    """A stranger can send a new one with each request, which no cache knows."""

    def parse() -> None:
        for number in range(20):
            new = accept + b"%d" % number
            assert negotiate(new).result is None
            assert not is_json(new)

    assert ordinary_seconds(parse) / 20 < 0.001


def test_only_the_first_ranges_of_a_short_header_count() -> None:
    assert negotiate(b"a/b," * 31 + b"application/json").result is JSON
    assert negotiate(b"a/b," * 32 + b"application/json").result is None
    assert negotiate(b"application/json".ljust(512)).result is JSON
    assert negotiate(b"application/json".ljust(513)).result is None


@pytest.mark.parametrize(
    ("content_type", "means"),
    [
        (b"application/json", True),
        (b"Application/Json", True),
        (b"application/json;charset=utf-8", True),
        (b'application/json; charset="UTF8"', True),
        (b"application/json; boundary=x", True),
        (b"application/json;charset=latin1", False),
        (b"application/jsonx", False),
        (b"application/json, application/json", False),
        (b"application/graphql-response+json", False),
        (b"*/*", False),
        (b"", False),
        (b"application/json" + b";" * 5_000, False),
    ],
)
def test_content_type_decides_whether_a_request_is_json(content_type: bytes, means: bool) -> None:
    assert is_json(content_type) is means
