"""The renderer: it blocks neither the event loop nor other webhooks."""

import asyncio
import gc
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ringback.jobs import renderer as renderer_module
from ringback.jobs.http.request import OutgoingRequest
from ringback.jobs.renderer import Renderer, render
from ringback.jobs.request_plan import RequestPlan
from ringback.models.errors import TemplateError
from ringback.models.queue.claims import ClaimedChange, ClaimedEvent
from ringback.models.queue.grants import LARGE_BYTES
from ringback.models.redaction import Redaction
from ringback.models.templates import budget
from ringback.models.templates.budget import MAX_SHORT_CHARACTERS, Meter
from ringback.models.templates.decimal_fields import DecimalFields
from ringback.models.templates.template import compile_condition, compile_template
from ringback.models.webhook import Webhook
from tests.support.unsaved import change, event, webhook

#: Seconds of CPU time: much more than `render` itself takes, whatever else the machine does.
TURN_SECONDS = 0.02
SLOW_TEMPLATE = "{% for i in (1..3000) %}{{ item.text | upcase | size }}{% endfor %}"


@pytest.fixture(autouse=True)
def _only_what_a_test_spends(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Lengthen the turn, and keep garbage collection from counting as rendering."""
    monkeypatch.setattr(renderer_module, "TURN_SECONDS", TURN_SECONDS)
    monkeypatch.setattr(renderer_module, "SLOW_SECONDS", TURN_SECONDS)
    gc.disable()
    yield
    gc.enable()


class Slow:
    """A fake `render` that takes `seconds` of CPU time and records its threads."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.threads: list[str] = []

    def __call__(
        self,
        plan: RequestPlan,
        webhook: Webhook,
        event: ClaimedEvent,
        change: ClaimedChange | None,
        decimals: DecimalFields,
        *,
        redaction: Redaction,
        meter: Meter | None,
    ) -> OutgoingRequest:
        self.threads.append(threading.current_thread().name.split("_")[0])
        end = time.thread_time() + self.seconds
        while time.thread_time() < end:
            pass
        return render(plan, webhook, event, change, decimals, redaction=redaction, meter=meter)


async def test_a_slow_webhook_is_rendered_in_a_thread_until_it_is_fast_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slow = Slow(TURN_SECONDS * 2)
    monkeypatch.setattr(renderer_module, "render", slow)
    renderer = Renderer()
    slow_webhook, other_webhook = webhook(), webhook()
    for _ in range(3):
        await renderer.render(slow_webhook, event(), change())
    slow.seconds = 0.0
    await renderer.render(slow_webhook, event(), change())
    await renderer.render(slow_webhook, event(), change())
    await renderer.render(other_webhook, event(), change())
    renderer.close()
    assert slow.threads == ["MainThread"] + ["ringback-render"] * 3 + ["MainThread"] * 2


@pytest.mark.measures_cpu
async def test_a_template_leaves_the_loop_after_a_turn_and_is_rendered_in_the_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(renderer_module, "SLOW_SECONDS", 0.001)
    watched = Slow(0.0)
    monkeypatch.setattr(renderer_module, "render", watched)
    renderer = Renderer()
    slow_webhook = webhook(body_template=SLOW_TEMPLATE)

    rendered = await renderer.render(slow_webhook, event(), change({"text": "x"}))
    await renderer.render(slow_webhook, event(), change({"text": "x"}))
    renderer.close()

    assert rendered.body == b"1" * 3000
    assert watched.threads == ["MainThread"] + ["ringback-render"] * 2


async def test_only_one_request_of_a_slow_webhook_is_tried_on_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Slow(TURN_SECONDS * 2)
    monkeypatch.setattr(renderer_module, "render", slow)
    renderer = Renderer()
    slow_webhook = webhook()

    await asyncio.gather(*(renderer.render(slow_webhook, event(), change()) for _ in range(5)))
    renderer.close()

    assert slow.threads == ["MainThread"] + ["ringback-render"] * 4


async def test_long_templates_are_compiled_in_the_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Slow(0.0)
    monkeypatch.setattr(renderer_module, "render", watched)
    renderer = Renderer()
    long_webhook = webhook(body_template="{{ item.name }}" + "x" * MAX_SHORT_CHARACTERS)

    await renderer.render(long_webhook, event(), change())
    await renderer.render(long_webhook, event(), change())
    renderer.close()

    assert watched.threads == ["ringback-render", "MainThread"]


@pytest.mark.parametrize(
    ("compile_other", "field"), [(compile_condition, "body_template"), (compile_template, "condition")]
)
async def test_a_template_and_a_condition_of_the_same_text_are_compiled_each(
    compile_other: Callable[[str], object], field: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = Slow(0.0)
    monkeypatch.setattr(renderer_module, "render", watched)
    renderer = Renderer()
    text = f'item.name != "{field} {{{{ item.name }}}} {"x" * MAX_SHORT_CHARACTERS}"'
    compile_other(text)

    await renderer.render(webhook(**{field: text}), event(), change())
    renderer.close()

    assert watched.threads == ["ringback-render"]


@pytest.mark.measures_cpu
async def test_all_templates_of_a_request_share_one_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "RENDER_BUDGET_MS", 5)
    slow_header = "{% for i in (1..9000) %}{% assign text = item.text | upcase %}{% endfor %}"
    headers = [[f"X-{number}", slow_header] for number in range(50)]
    renderer = Renderer()

    with pytest.raises(
        TemplateError, match=r"^The header X-\d+ cannot be rendered: The templates of one request take more than 5 ms"
    ):
        await renderer.render(webhook(headers=headers), event(), change({"text": "x"}))
    renderer.close()


async def test_a_busy_machine_makes_no_webhook_slow_for_longer_than_one_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Busy(Slow):
        def __call__(self, *given: Any, redaction: Redaction, meter: Meter | None) -> OutgoingRequest:
            time.sleep(self.pause)  # of the wall clock alone
            return super().__call__(*given, redaction=redaction, meter=meter)

        pause = TURN_SECONDS * 2

    busy = Busy(0.0)
    monkeypatch.setattr(renderer_module, "render", busy)
    renderer = Renderer()
    busy_webhook = webhook()
    await renderer.render(busy_webhook, event(), change())
    await renderer.render(busy_webhook, event(), change())
    busy.pause = 0.0
    await renderer.render(busy_webhook, event(), change())
    renderer.close()
    assert busy.threads == ["MainThread", "ringback-render", "MainThread"]


async def test_rendering_many_requests_gives_the_loop_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renderer_module, "render", Slow(TURN_SECONDS * 0.6))
    renderer = Renderer()
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


@pytest.mark.parametrize(
    ("characters", "waits"), [(0, False), (LARGE_BYTES, True)], ids=["a small item", "a large item"]
)
async def test_requests_that_differ_only_in_a_small_item_do_not_wait_for_a_turn(
    characters: int, waits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    renderer = Renderer()
    sends_json = webhook(send_json=True)
    await renderer.render(sends_json, event(), change())
    monkeypatch.setattr(renderer, "_seconds_this_turn", TURN_SECONDS)
    has_turned = False

    def turn() -> None:
        nonlocal has_turned
        has_turned = True

    asyncio.get_running_loop().call_soon(turn)
    await renderer.render(sends_json, event(), change({"text": "x" * characters}))
    renderer.close()
    assert has_turned is waits


async def test_a_webhook_that_sends_the_item_is_slow_for_one_request_only(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Slow(TURN_SECONDS * 1.5)
    monkeypatch.setattr(renderer_module, "render", slow)
    renderer = Renderer()
    sends_json = webhook(send_json=True)
    await renderer.render(sends_json, event(), change())
    slow.seconds = 0.0
    await renderer.render(sends_json, event(), change())
    assert (await renderer.render(sends_json, event(), change())).body == change().item_json.encode()
    renderer.close()
    assert slow.threads == ["MainThread", "ringback-render"], "the third request is not rendered"


async def test_an_internal_error_becomes_a_template_error_with_its_log_id(monkeypatch: pytest.MonkeyPatch) -> None:
    def raise_error(
        plan: RequestPlan,
        webhook: Webhook,
        event: ClaimedEvent,
        change: ClaimedChange | None,
        decimals: DecimalFields,
        *,
        meter: Meter,
    ) -> OutgoingRequest:
        raise KeyError("private detail")

    monkeypatch.setattr(renderer_module, "render", raise_error)
    renderer = Renderer()
    with pytest.raises(TemplateError, match=r"^The request cannot be rendered: internal error [0-9a-f]{12}$"):
        await renderer.render(webhook(), event(), change())
    renderer.close()
