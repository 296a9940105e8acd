"""Rendered requests: their headers and URLs."""

import pytest

from ringback.jobs.http.request import AUTOMATIC_HEADERS, OutgoingRequest
from ringback.jobs.renderer import sign
from ringback.jobs.request_plan import USER_AGENT
from ringback.models.enums import HttpMethod, SignatureCheck
from ringback.models.security.signing import new_signing_secret, verify
from tests.support.rendered import EVENT_ID, render, render_error, render_webhook
from tests.support.unsaved import change, event, webhook


def _head(rendered: OutgoingRequest) -> bytes:
    signed = sign(rendered, event(), timestamp=1, secret=new_signing_secret())
    return signed.template.head(signed.values, signed.length)


def test_every_request_has_the_event_id_and_standard_webhooks_headers() -> None:
    secret = new_signing_secret()
    rendered = render_webhook(body_template="a=1", headers=[["X-Name", "{{ item.name }}"]])
    request = sign(rendered, event(attempt_count=2), timestamp=1_772_366_400, secret=secret)
    headers = dict(request.headers)
    assert list(headers) == [
        "User-Agent",
        "Content-Type",
        "X-Name",
        "PS-WEBHOOK_EVENT-ID",
        "Ringback-Event",
        "Ringback-Attempt",
        "webhook-id",
        "webhook-timestamp",
        "webhook-signature",
    ]
    assert headers["PS-WEBHOOK_EVENT-ID"] == headers["webhook-id"] == EVENT_ID
    assert headers["webhook-timestamp"] == "1772366400"
    assert headers["Ringback-Event"] == "lead.created"
    assert headers["Ringback-Attempt"] == "3"
    assert headers["X-Name"] == "Мария & Co"
    assert verify(headers, b"a=1", secret) is SignatureCheck.VALID
    assert verify(headers, b"a=2", secret) is not SignatureCheck.VALID


def test_a_bodiless_request_is_signed_over_an_empty_body() -> None:
    secret = new_signing_secret()
    request = sign(render_webhook(method=HttpMethod.GET), event(), timestamp=1, secret=secret)
    assert request.body is None
    assert verify(dict(request.headers), b"", secret) is SignatureCheck.VALID


def test_the_user_agent_can_be_replaced() -> None:
    request = render_webhook(headers=[["user-agent", "Shop/1"]])
    assert [value for name, value in request.headers if name.lower() == "user-agent"] == ["Shop/1"]
    assert "user-agent" not in {name.lower() for name, _ in AUTOMATIC_HEADERS}


@pytest.mark.parametrize("value", ["a\r\nX-Evil: 1", "a\nb", "a\x00b", "a\x7fb", "a\r"])
def test_no_rendered_value_can_add_a_header(value: str) -> None:
    # A trailing line break is white space around the value and falls away; within it, it is refused.
    item = {"name": value + "."}
    assert render_error(item, headers=[["X-Name", "{{ item.name }}"]]) == (
        f"The value of the header X-Name, rendered as {item['name']!r}, contains control characters. Remove them"
    )


def test_a_header_is_stripped_and_may_be_rendered_empty() -> None:
    request = render_webhook(
        {"name": "  x \n"}, headers=[["A", "{{ item.name }}"], ["B", "{% if false %}x{% endif %}"]]
    )
    assert ("A", "x") in request.headers
    assert ("B", "") in request.headers


def test_a_rendered_header_may_be_too_long() -> None:
    assert "has 4,097 characters. Enter at most 4,096" in render_error(
        {"n": "x" * 4097}, headers=[["A", "{{ item.n }}"]]
    )


def test_a_changed_webhook_is_rendered_as_it_is_now() -> None:
    one = webhook(headers=[["A", "1"]], body_template="x")
    before = render(one, event(), change())
    one.url, one.headers, one.content_type, one.method = "https://hooks.example/2", [["A", "2"]], "a/b", HttpMethod.PUT
    after = render(one, event(), change())
    assert (before.method, str(before.url), before.headers[1:3]) == (
        "POST",
        "https://hooks.example/in",
        (("Content-Type", "application/x-www-form-urlencoded"), ("A", "1")),
    )
    assert (after.method, str(after.url), after.headers[1:3]) == (
        "PUT",
        "https://hooks.example/2",
        (("Content-Type", "a/b"), ("A", "2")),
    )


def test_a_header_with_liquid_keeps_the_order_of_headers() -> None:
    request = render_webhook(
        headers=[["A", " 1 "], ["B", "{{ item.n }}"], ["C", "3"]], content_type="a/b; c={{ item.n }}"
    )
    assert request.headers == (
        ("User-Agent", USER_AGENT),
        ("Content-Type", "a/b; c={{ item.n }}"),  # no template
        ("A", "1"),
        ("B", "3"),
        ("C", "3"),
    )


def test_faults_without_liquid_are_refused_each_time() -> None:
    for _ in range(2):
        assert render_error(headers=[["A", "a\nb"]]).startswith("The value of the header A, rendered as ")
        assert render_error(headers=[["A", "{{ x"]]).startswith("The header A cannot be rendered: ")
        assert render_error(url="ftp://hooks.example/").startswith("The URL, rendered as ")


def test_the_url_may_hold_liquid() -> None:
    request = render_webhook(
        {"host": "hooks.example", "q": "ж&="}, url="https://{{ item.host }}/in?q={{ item.q | url_encode }}"
    )
    assert request.url.raw_host == "hooks.example"
    assert str(request.url) == "https://hooks.example/in?q=%D0%B6%26%3D"


@pytest.mark.parametrize(
    "host",
    ["", "user:pass@hooks.example", "hooks.example\r\nX: 1", "hooks.example\x00", "a b", "//", "[::1", "x:99999"],
)
def test_a_rendered_url_that_is_invalid_is_refused(host: str) -> None:
    message = render_error({"host": host}, url="https://{{ item.host }}/")
    assert message.startswith("The URL, rendered as ")
    assert ", cannot be used: " in message


@pytest.mark.parametrize(
    "url",
    ["https://hooks.example/%3Akey%40/a%21?sp=%2Fa&e=%25", "https://hooks.example/in?", "https://hooks.example/~a"],
)
@pytest.mark.parametrize("liquid", ["", "{{ item.blank_text }}"])
def test_a_url_goes_out_as_written(url: str, liquid: str) -> None:
    request = render_webhook({"blank_text": ""}, url=url + liquid)
    assert _head(request).startswith(f"POST {url.removeprefix('https://hooks.example')} HTTP/1.1\r\n".encode())
    assert request.template.target.text == url


def test_characters_that_no_url_contains_go_out_percent_encoded() -> None:
    request = render_webhook({"share": '50%"'}, url="https://hooks.example/{{ item.share }}?q={{ item.share }}|")
    assert _head(request).startswith(b"POST /50%25%22?q=50%25%22%7C HTTP/1.1\r\n")
    assert request.template.target.text == "https://hooks.example/50%25%22?q=50%25%22%7C"


@pytest.mark.parametrize(
    "segment", [".", "..", "%2e", "%2E%2e", ".%2e", "a/../b", "a/..", "./a", "..;x=1", "..%5C..", "..%2F..%2Fadmin"]
)
def test_data_cannot_add_a_dot_segment(segment: str) -> None:
    message = render_error({"key": segment}, url="https://hooks.example/files/{{ item.key }}/x")
    assert message.startswith(f"The URL, rendered as 'https://hooks.example/files/{segment}/x', cannot be used: ")
    assert "The path of the URL has the segment " in message


def test_data_that_is_url_encoded_cannot_add_a_dot_segment() -> None:
    message = render_error({"key": "../../admin"}, url="https://hooks.example/files/{{ item.key | url_encode }}")
    assert "The path of the URL has the segment .. after /files/, and servers resolve it" in message


def test_data_may_hold_dots_that_are_no_segment() -> None:
    request = render_webhook({"key": "..a", "q": "/../"}, url="https://hooks.example/{{ item.key }}./x?q={{ item.q }}.")
    assert request.template.target.text == "https://hooks.example/..a./x?q=/../."


def test_dot_segments_of_an_older_webhook_are_resolved_but_data_adds_none() -> None:
    url = "https://hooks.example/a/../{{ item.key }}"
    assert render_webhook({"key": "b"}, url=url).template.target.text == "https://hooks.example/b"
    assert "cannot be used: The path of the URL has the segment .." in render_error({"key": "b/.."}, url=url)
    assert render_webhook(url="https://hooks.example/a/../b").template.target.text == "https://hooks.example/b"


def test_a_scheme_that_is_not_http_is_refused() -> None:
    assert "cannot be used" in render_error({"s": "file"}, url="{{ item.s }}://hooks.example/")
