"""Rendered requests whose content type names a charset."""

import json

import pytest

from ringback.jobs.attempt_json import request_to_json
from ringback.jobs.renderer import sign
from ringback.models.enums import SignatureCheck
from ringback.models.redaction import DEFAULT
from ringback.models.security.signing import new_signing_secret, verify
from tests.support.rendered import render_webhook
from tests.support.unsaved import ITEM, event

FORM = "application/x-www-form-urlencoded; charset=windows-1251"
NOTE = "The body has characters that windows-1251 lacks; they were sent as question marks."


def test_a_body_is_encoded_in_the_charset_of_its_content_type() -> None:
    request = render_webhook(
        {"name": "жук"}, content_type="text/xml; charset=windows-1251", body_template="{{ item.name }}"
    )
    assert request.body == b"\xe6\xf3\xea"
    assert ("Content-Type", "text/xml; charset=windows-1251") in request.headers
    assert request.note is None


def test_a_form_is_encoded_in_its_charset() -> None:
    request = render_webhook(
        {"name": "жук & ё"}, content_type=FORM, body_template="имя={{ item.name | url_encode }}", url="https://h/"
    )
    assert request.body == b"\xe8\xec\xff=%E6%F3%EA+%26+%B8"


def test_the_url_and_headers_stay_in_utf_8() -> None:
    request = render_webhook(
        {"name": "ж"},
        content_type=FORM,
        url="https://h/{{ item.name | url_encode }}",
        headers=[["X", "{{ item.name | url_encode }}"]],
    )
    assert request.template.target.text == "https://h/%D0%B6"
    assert ("X", "%D0%B6") in request.headers


@pytest.mark.parametrize(
    ("body_template", "body"),
    [("a={{ item.name | url_encode }}", b"a=%3F"), ("a={{ item.name }}", b"a=?"), ("日", b"?")],
)
def test_characters_that_the_charset_lacks_are_noted(body_template: str, body: bytes) -> None:
    rendered = render_webhook({"name": "日"}, content_type=FORM, body_template=body_template)
    request = sign(rendered, event(), timestamp=1, secret=new_signing_secret())
    assert (request.body, request.note) == (body, NOTE)
    assert request_to_json(request, DEFAULT)["note"] == NOTE


def test_the_signature_is_over_the_bytes_sent_and_the_record_shows_their_text() -> None:
    secret = new_signing_secret()
    rendered = render_webhook({"name": "жук"}, content_type="a/b; charset=utf-16", body_template="{{ item.name }}")

    request = sign(rendered, event(), timestamp=1_772_366_400, secret=secret)

    assert request.body == "жук".encode("utf-16")
    assert request.length == "8"
    assert verify(dict(request.headers), "жук".encode("utf-16"), secret) is SignatureCheck.VALID
    stored = request_to_json(request, DEFAULT)
    assert stored["body"] == "жук"
    assert "note" not in stored


def test_the_whole_object_is_encoded_without_loss() -> None:
    request = render_webhook(
        {**ITEM, "name": "ж日"}, content_type="application/json; charset=windows-1251", send_json=True
    )
    assert request.body is not None
    assert b'"\xe6\\u65e5"' in request.body
    assert json.loads(request.body.decode("cp1251")) == {**ITEM, "name": "ж日"}
    assert request.note is None


@pytest.mark.parametrize("charset", ["windows-1215", "rot13", ""])
def test_an_older_webhook_with_an_unknown_charset_still_sends_utf_8(charset: str) -> None:
    request = render_webhook(content_type=f"text/plain; charset={charset}", body_template="ж")
    assert request.body == "ж".encode()
