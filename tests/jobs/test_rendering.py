"""What is made of a webhook, an event and its snapshot: bodies, headers, URLs, and what is refused at send time."""

import asyncio
import json
import threading
import time
from typing import Any

import pytest

from ringback.jobs.plans import USER_AGENT
from ringback.jobs.rendering import STRETCH_SECONDS, Rendered, Renderer, render, sign
from ringback.jobs.requests import AUTOMATIC_HEADERS
from ringback.models.errors import TemplateError
from ringback.models.event import Change, Event
from ringback.models.ids import Prefix, encode
from ringback.models.signing import SignatureVerdict, new_secret, verify
from ringback.models.webhook import HttpMethod, Webhook
from tests.support.unsaved import ITEM, KEY, change, event, webhook

EVENT_ID = encode(Prefix.EVENT, KEY)


def rendered(item: dict[str, Any] | None = None, **fields: Any) -> Rendered:
    return render(webhook(**fields), event(), change(item))


def refusal(item: dict[str, Any] | None = None, **fields: Any) -> str:
    with pytest.raises(TemplateError) as caught:
        rendered(item, **fields)
    return str(caught.value)


OURS = ((("PS-WEBHOOK_EVENT-ID"), EVENT_ID), ("Ringback-Event", "lead.created"))


# -------------------------------------------------------------------------------------------------------------- bodies


def test_a_template_makes_a_form_body() -> None:
    made = rendered(body_template="phone={{ item.phone | url_encode }}&name={{ item.name | url_encode }}")
    assert made.method == "POST"
    assert str(made.url) == "https://hooks.example/in"
    assert made.body == b"phone=%2B7+900&name=%D0%9C%D0%B0%D1%80%D0%B8%D1%8F+%26+Co"
    assert made.headers == (
        ("User-Agent", USER_AGENT),
        ("Content-Type", "application/x-www-form-urlencoded"),
        *OURS,
    )


def test_send_json_sends_the_whole_object_and_no_template() -> None:
    made = rendered(send_json=True, body_template="never {{ item.nothing }}")
    assert made.body is not None
    assert json.loads(made.body) == ITEM
    assert "Мария".encode() in made.body
    assert ("Content-Type", "application/json") in made.headers


def test_an_empty_template_makes_an_empty_body() -> None:
    made = rendered()
    assert made.body == b""
    assert ("Content-Type", "application/x-www-form-urlencoded") in made.headers


@pytest.mark.parametrize("method", [HttpMethod.GET, HttpMethod.DELETE])
def test_get_and_delete_have_a_body_only_when_one_is_asked_for(method: HttpMethod) -> None:
    bare = rendered(method=method)
    assert (bare.method, bare.body) == (method.value, None)
    assert "content-type" not in {name.lower() for name, _ in bare.headers}
    assert rendered(method=method, body_template="a=1").body == b"a=1"
    whole = rendered(method=method, send_json=True)
    assert whole.body is not None
    assert json.loads(whole.body) == ITEM


@pytest.mark.parametrize("method", [HttpMethod.PUT, HttpMethod.PATCH])
def test_put_and_patch_are_like_post(method: HttpMethod) -> None:
    assert (rendered(method=method).method, rendered(method=method).body) == (method.value, b"")


def test_the_content_type_can_be_set() -> None:
    chosen = "text/plain; charset=utf-8"
    assert ("Content-Type", chosen) in rendered(content_type=chosen, body_template="ж").headers
    assert ("Content-Type", "application/ld+json") in rendered(
        content_type="application/ld+json", send_json=True
    ).headers
    assert rendered(content_type="text/plain", body_template="ж").body == "ж".encode()


def test_templates_know_the_event_too() -> None:
    names = ("event.id", "event.model", "event.action", "event.created_at", "event.changed_fields | join: ','")
    template = " ".join(f"{{{{ {name} }}}}" for name in names)
    made = render(webhook(body_template=template), event(), change(changed_fields=["name", "phone"]))
    assert made.body == f"{EVENT_ID} lead created 2026-03-01T12:00:00.123456Z name,phone".encode()


# ------------------------------------------------------------------------------------------------------------- headers


def test_every_request_carries_the_headers_of_rule_5() -> None:
    secret = new_secret()
    made = rendered(body_template="a=1", headers=[["X-Name", "{{ item.name }}"]])
    request = sign(made, event(attempt_count=2), timestamp=1_772_366_400, secrets=[secret])
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
    assert verify(headers, b"a=1", secret, now=None) is SignatureVerdict.VALID
    assert verify(headers, b"a=2", secret, now=None) is not SignatureVerdict.VALID


def test_a_bodiless_request_is_signed_over_an_empty_body() -> None:
    secret = new_secret()
    request = sign(rendered(method=HttpMethod.GET), event(), timestamp=1, secrets=[secret])
    assert request.body is None
    assert verify(dict(request.headers), b"", secret, now=None) is SignatureVerdict.VALID


def test_the_user_agent_can_be_replaced() -> None:
    made = rendered(headers=[["user-agent", "Shop/1"]])
    assert [value for name, value in made.headers if name.lower() == "user-agent"] == ["Shop/1"]
    assert "user-agent" not in {name.lower() for name, _ in AUTOMATIC_HEADERS}


@pytest.mark.parametrize("value", ["a\r\nX-Evil: 1", "a\nb", "a\x00b", "a\x7fb", "a\r"])
def test_no_rendered_value_can_add_a_header(value: str) -> None:
    # A trailing line break is white space around the value and falls away; within it, it is refused.
    item = {"name": value + "."}
    assert refusal(item, headers=[["X-Name", "{{ item.name }}"]]) == (
        f"The header X-Name was rendered to {item['name']!r}, which must not hold control characters"
    )


def test_a_header_is_stripped_and_may_be_rendered_empty() -> None:
    made = rendered({"name": "  x \n"}, headers=[["A", "{{ item.name }}"], ["B", "{% if false %}x{% endif %}"]])
    assert ("A", "x") in made.headers
    assert ("B", "") in made.headers


def test_a_rendered_header_may_be_too_long() -> None:
    assert "has 4,097 characters; 4,096 are allowed" in refusal({"n": "x" * 4097}, headers=[["A", "{{ item.n }}"]])


def test_what_a_webhook_says_now_is_sent_whatever_it_said_before() -> None:
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


def test_one_header_with_liquid_leaves_the_others_in_their_places() -> None:
    made = rendered(headers=[["A", " 1 "], ["B", "{{ item.n }}"], ["C", "3"]], content_type="a/b; c={{ item.n }}")
    assert made.headers == (
        ("User-Agent", USER_AGENT),
        ("Content-Type", "a/b; c={{ item.n }}"),  # no template
        ("A", "1"),
        ("B", "3"),
        ("C", "3"),
        *OURS,
    )


def test_what_is_fixed_and_wrong_is_refused_each_time() -> None:
    for _ in range(2):
        assert refusal(headers=[["A", "a\nb"]]).startswith("The header A was rendered to ")
        assert refusal(headers=[["A", "{{ x"]]).startswith("The header A cannot be rendered: ")
        assert refusal(url="ftp://hooks.example/").startswith("The URL was rendered to ")


# ----------------------------------------------------------------------------------------------------------------- URL


def test_the_url_may_hold_liquid() -> None:
    made = rendered({"host": "hooks.example", "q": "ж&="}, url="https://{{ item.host }}/in?q={{ item.q | url_encode }}")
    assert made.url.raw_host == "hooks.example"
    assert str(made.url) == "https://hooks.example/in?q=%D0%B6%26%3D"


@pytest.mark.parametrize(
    "host",
    ["", "user:pass@hooks.example", "hooks.example\r\nX: 1", "hooks.example\x00", "a b", "//", "[::1", "x:99999"],
)
def test_a_url_that_was_rendered_into_none_is_refused(host: str) -> None:
    message = refusal({"host": host}, url="https://{{ item.host }}/")
    assert message.startswith("The URL was rendered to ")
    assert "which cannot be used" in message


def test_a_scheme_that_is_not_http_is_refused() -> None:
    assert "cannot be used" in refusal({"s": "file"}, url="{{ item.s }}://hooks.example/")


# ------------------------------------------------------------------------------------------------------------ failures


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"body_template": "{{ item.fone }}"}, "The body"),
        ({"url": "https://hooks.example/{{ item.fone }}"}, "The URL"),
        ({"headers": [["X-Phone", "{{ item.fone }}"]]}, "The header X-Phone"),
    ],
)
def test_what_cannot_be_rendered_is_named(fields: dict[str, Any], what: str) -> None:
    message = refusal(**fields)
    assert message.startswith(f"{what} cannot be rendered: ")
    assert "fone" in message


def test_a_condition_that_fails_fails_the_attempt_but_not_a_test_event() -> None:
    broken = webhook(condition="item.n > item.name", body_template="x")
    with pytest.raises(TemplateError, match=r"^The condition cannot be rendered: "):
        render(broken, event(), change())
    assert render(broken, event(is_test=True, test_item=ITEM), None).body == b"x"


def test_a_condition_that_does_not_hold_any_more_stops_nothing() -> None:
    # It was asked when the change was recorded; the snapshot has not changed since.
    assert rendered(condition="item.n > 100", body_template="x").body == b"x"


def test_a_test_event_sends_its_own_item() -> None:
    test = event(is_test=True, test_item={"name": "Ада"})
    assert render(webhook(body_template="{{ item.name }}"), test, None).body == "Ада".encode()
    assert json.loads(render(webhook(send_json=True), test, None).body or b"") == {"name": "Ада"}


def test_text_that_cannot_be_written_is_refused() -> None:
    message = refusal({"name": "a\ud800b"}, body_template="{{ item.name }}")
    assert message.startswith("The body cannot be rendered: the text holds characters that cannot be written as UTF-8")


def test_an_error_never_quotes_a_secret() -> None:
    message = refusal({"name": "a\nb"}, headers=[["Authorization", "Bearer s3cr3t-{{ item.name }}"]])
    assert message == "The header Authorization was rendered to a secret value, which must not hold control characters"


# ------------------------------------------------------------------------------------------------------------ Renderer


class Slow:
    """Stands in for `render`: takes `seconds` of CPU time, and notes on which thread."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.threads: list[str] = []

    def __call__(self, webhook: Webhook, event: Event, change: Change | None) -> Rendered:
        self.threads.append(threading.current_thread().name.split("_")[0])
        end = time.thread_time() + self.seconds
        while time.thread_time() < end:
            pass
        return render(webhook, event, change)


async def test_a_webhook_that_renders_slowly_is_taken_to_a_thread_until_it_is_fast_again() -> None:
    slow = Slow(STRETCH_SECONDS * 2)
    renderer = Renderer(slow)
    one, other = webhook(), webhook()
    for _ in range(3):  # suspected by the wall clock, found slow by CPU time, and taken away
        await renderer.render(one, event(), change())
    slow.seconds = 0.0
    await renderer.render(one, event(), change())
    await renderer.render(one, event(), change())
    await renderer.render(other, event(), change())
    renderer.close()
    assert slow.threads == ["MainThread"] * 2 + ["ringback-render"] * 2 + ["MainThread"] * 2


async def test_a_machine_that_is_busy_accuses_no_webhook() -> None:
    class Busy(Slow):
        def __call__(self, webhook: Webhook, event: Event, change: Change | None) -> Rendered:
            time.sleep(STRETCH_SECONDS * 2)  # of the wall clock alone
            return super().__call__(webhook, event, change)

    busy = Busy(0.0)
    renderer = Renderer(busy)
    one = webhook()
    for _ in range(4):
        await renderer.render(one, event(), change())
    renderer.close()
    assert busy.threads == ["MainThread"] * 4


async def test_rendering_many_lets_the_loop_have_its_turn() -> None:
    renderer = Renderer(Slow(STRETCH_SECONDS * 0.6))
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    counting = asyncio.create_task(count())
    await asyncio.gather(*(renderer.render(webhook(), event(), change()) for _ in range(20)))
    counting.cancel()
    renderer.close()
    assert turns >= 9


async def test_an_error_of_our_own_is_a_template_error_that_names_its_log_line() -> None:
    def broken(webhook: Webhook, event: Event, change: Change | None) -> Rendered:
        raise KeyError("private detail")

    renderer = Renderer(broken)
    with pytest.raises(TemplateError, match=r"^The request cannot be rendered: internal error [0-9a-f]{12}$"):
        await renderer.render(webhook(), event(), change())
    renderer.close()
