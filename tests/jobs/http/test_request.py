"""Request templates: they write the fixed headers into each request, and check every header."""

import pytest

from ringback.jobs.http.request import Headers, OutgoingRequest, RequestTemplate
from ringback.models.security.url_rules import parse_target

HERE = parse_target("http://hooks.example:8080/in?x=100%25")


def test_a_head_consists_of_its_headers() -> None:
    template = RequestTemplate("POST", HERE, (("X-Rate", "5%s"),), ("X-Id", "accept"))
    request = OutgoingRequest(template, ("7", "a%b"), b"12345")
    assert request.sent_headers == (
        ("Host", "hooks.example:8080"),
        ("Accept-Encoding", "gzip, deflate"),
        ("X-Rate", "5%s"),
        ("X-Id", "7"),
        ("accept", "a%b"),
        ("Content-Length", "5"),
    )
    lines = "".join(f"{name}: {value}\r\n" for name, value in request.sent_headers)
    assert template.head(request.values, request.length) == f"POST /in?x=100%25 HTTP/1.1\r\n{lines}\r\n".encode()


def test_a_head_without_length_ends_after_the_headers() -> None:
    template = RequestTemplate("GET", HERE, (("host", "h"), ("accept", "b"), ("accept-encoding", "c")), ())
    assert template.head((), None) == b"GET /in?x=100%25 HTTP/1.1\r\nhost: h\r\naccept: b\r\naccept-encoding: c\r\n\r\n"
    assert OutgoingRequest(template).sent_headers == (("host", "h"), ("accept", "b"), ("accept-encoding", "c"))


def test_as_many_values_as_names_are_needed() -> None:
    request = OutgoingRequest(RequestTemplate("GET", HERE, (), ("A", "B")), ("1",))
    with pytest.raises(ValueError, match="shorter"):
        assert request.headers
    with pytest.raises(TypeError):
        request.template.head(request.values, None)


@pytest.mark.parametrize(
    ("method", "body", "length"),
    [("POST", b"12345", "5"), ("POST", b"", "0"), ("POST", None, "0"), ("GET", None, None), ("GET", b"1", "1")],
)
def test_the_content_length_is_sent_where_one_is_expected(method: str, body: bytes | None, length: str | None) -> None:
    assert OutgoingRequest(RequestTemplate(method, HERE, (), ()), (), body).length == length


@pytest.mark.parametrize(
    ("same", "fault"),
    [
        ((("X", "ж"),), None),
        ((("X: y\r\nZ", "v"),), "'X: y\\r\\nZ' is not a header name."),
        ((("Content-Length", "3"),), "The header Content-Length is set by Ringback itself."),
        ((("X", "a\r\nY: b"),), "The value of the header X contains a line break or another control character."),
        ((("X", "\ud800"),), "The value of the header X contains a line break or another control character."),
    ],
)
def test_fixed_headers_are_checked(same: Headers, fault: str | None) -> None:
    assert OutgoingRequest(RequestTemplate("POST", HERE, same, ("A",)), ("1",)).fault == fault


def test_variable_values_are_checked_each_time() -> None:
    template = RequestTemplate("POST", HERE, (("X", "y"),), ("A", "B"))
    assert OutgoingRequest(template, ("1", "ж\t ")).fault is None
    fault = "The value of the header B contains a line break or another control character."
    assert OutgoingRequest(template, ("1", "2\n")).fault == fault


def test_a_header_may_have_a_percent_sign_in_its_name() -> None:
    made = RequestTemplate("POST", parse_target("http://127.0.0.1/%41"), (("X-5%", "5%"),), ("X-100%", "X-%s"))
    head = made.head(("1%", "2%s"), "0").decode()
    assert head.splitlines()[0] == "POST /%41 HTTP/1.1"
    assert head.endswith("X-5%: 5%\r\nX-100%: 1%\r\nX-%s: 2%s\r\nContent-Length: 0\r\n\r\n")
