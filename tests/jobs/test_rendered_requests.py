"""Rendered requests: their bodies, and the errors of rendering."""

import json
from typing import Any

import pytest

from ringback.jobs.request_plan import USER_AGENT
from ringback.models.enums import HttpMethod
from ringback.models.errors import TemplateError
from ringback.models.redaction import MASK
from tests.support.rendered import EVENT_ID, render, render_error, render_webhook
from tests.support.unsaved import ITEM, change, event, webhook


def test_a_template_makes_a_form_body() -> None:
    request = render_webhook(body_template="phone={{ item.phone | url_encode }}&name={{ item.name | url_encode }}")
    assert request.method == "POST"
    assert str(request.url) == "https://hooks.example/in"
    assert request.body == b"phone=%2B7+900&name=%D0%9C%D0%B0%D1%80%D0%B8%D1%8F+%26+Co"
    assert request.headers == (
        ("User-Agent", USER_AGENT),
        ("Content-Type", "application/x-www-form-urlencoded"),
    )


def test_send_json_sends_the_whole_object_and_ignores_the_template() -> None:
    request = render_webhook(send_json=True, body_template="never {{ item.nothing }}")
    assert request.body is not None
    assert json.loads(request.body) == ITEM
    assert "Мария".encode() in request.body
    assert ("Content-Type", "application/json") in request.headers


def test_an_empty_template_makes_an_empty_body() -> None:
    request = render_webhook()
    assert request.body == b""
    assert ("Content-Type", "application/x-www-form-urlencoded") in request.headers


@pytest.mark.parametrize("method", [HttpMethod.GET, HttpMethod.DELETE])
def test_get_and_delete_have_a_body_only_if_one_is_configured(method: HttpMethod) -> None:
    bare = render_webhook(method=method)
    assert (bare.method, bare.body) == (method.value, None)
    assert "content-type" not in {name.lower() for name, _ in bare.headers}
    assert render_webhook(method=method, body_template="a=1").body == b"a=1"
    whole = render_webhook(method=method, send_json=True)
    assert whole.body is not None
    assert json.loads(whole.body) == ITEM


@pytest.mark.parametrize("method", [HttpMethod.PUT, HttpMethod.PATCH])
def test_put_and_patch_are_like_post(method: HttpMethod) -> None:
    assert (render_webhook(method=method).method, render_webhook(method=method).body) == (method.value, b"")


def test_the_content_type_can_be_set() -> None:
    chosen = "text/plain; charset=utf-8"
    assert ("Content-Type", chosen) in render_webhook(content_type=chosen, body_template="ж").headers
    assert ("Content-Type", "application/ld+json") in render_webhook(
        content_type="application/ld+json", send_json=True
    ).headers
    assert render_webhook(content_type="text/plain", body_template="ж").body == "ж".encode()


def test_templates_can_use_the_event() -> None:
    names = ("event.id", "event.model", "event.action", "event.created_at", "event.changed_fields | join: ','")
    template = " ".join(f"{{{{ {name} }}}}" for name in names)
    request = render(webhook(body_template=template), event(), change(changed_fields=["name", "phone"]))
    assert request.body == f"{EVENT_ID} lead created 2026-03-01T12:00:00.123456Z name,phone".encode()


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"body_template": "{{ item.fone }}"}, "The body"),
        ({"url": "https://hooks.example/{{ item.fone }}"}, "The URL"),
        ({"headers": [["X-Phone", "{{ item.fone }}"]]}, "The header X-Phone"),
    ],
)
def test_an_error_names_the_part_that_cannot_be_rendered(fields: dict[str, Any], what: str) -> None:
    message = render_error(**fields)
    assert message.startswith(f"{what} cannot be rendered: ")
    assert "fone" in message


def test_a_condition_that_fails_fails_the_attempt_but_not_a_test_event() -> None:
    broken = webhook(condition="item.n > item.name", body_template="x")
    with pytest.raises(TemplateError, match=r"^The condition cannot be rendered: "):
        render(broken, event(), change())
    assert render(broken, event(is_test=True, test_item=ITEM), None).body == b"x"


def test_a_condition_that_is_false_now_stops_no_attempt() -> None:
    # It was evaluated when the change was recorded; the snapshot has not changed since.
    assert render_webhook(condition="item.n > 100", body_template="x").body == b"x"


def test_a_pending_condition_that_is_false_fails_the_attempt() -> None:
    watching = webhook(condition="item.n > 2", body_template="x")
    assert render(watching, event(condition_pending=True), change()).body == b"x"
    with pytest.raises(TemplateError, match=r"^The condition is false\. It was not evaluated when the change was"):
        render(watching, event(condition_pending=True), change({"n": 1}))
    assert render(watching, event(condition_pending=True, is_test=True, test_item={"n": 1}), None).body == b"x"


def test_a_test_event_sends_its_own_item() -> None:
    test = event(is_test=True, test_item={"name": "Ада"})
    assert render(webhook(body_template="{{ item.name }}"), test, None).body == "Ада".encode()
    assert json.loads(render(webhook(send_json=True), test, None).body or b"") == {"name": "Ада"}


def test_text_that_is_not_unicode_is_refused() -> None:
    test = event(is_test=True, test_item={"name": "a\ud800b"})
    with pytest.raises(TemplateError, match="^The body cannot be rendered: The text contains characters that"):
        render(webhook(body_template="{{ item.name }}"), test, None)


def test_an_error_never_quotes_a_secret() -> None:
    message = render_error({"name": "a\nb"}, headers=[["Authorization", "Bearer s3cr3t-{{ item.name }}"]])
    assert message == "The value of the header Authorization, which is secret, contains control characters. Remove them"

    message = render_error({"name": "two words"}, url="https://hooks.example/?sig={{ item.name }}&a=b")
    assert message == (
        f"The URL, rendered as 'https://hooks.example/?sig={MASK}&a=b', cannot be used: "
        "The URL contains whitespace or control characters; write them percent-encoded."
    )
