"""Renders the request of an event: URL, headers and body of the webhook's templates, and signs it for each attempt.

The body is a Liquid template, or the snapshot as JSON. URL and header values may hold Liquid, too. Every attempt sends
the event's id in `PS-WEBHOOK_EVENT-ID`, and the headers of Standard Webhooks.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from time import perf_counter, thread_time
from typing import NamedTuple
from uuid import UUID, uuid4

import orjson
import structlog

from ringback.jobs.http.request import OutgoingRequest, RequestTemplate, make_request_template
from ringback.jobs.request_plan import ATTEMPT_HEADERS, RequestPlan, RequestPlans, list_templates
from ringback.models.errors import TemplateError
from ringback.models.ids import Prefix, encode
from ringback.models.queue.claims import ClaimedChange, ClaimedEvent
from ringback.models.queue.grants import LARGE_BYTES
from ringback.models.redaction import DEFAULT, Redaction
from ringback.models.security.signing import compute_signature
from ringback.models.security.url_rules import Target, check_header_value, check_url, parse_target
from ringback.models.templates.budget import Meter
from ringback.models.templates.charset import BodyCharset, BodyEncoder
from ringback.models.templates.decimal_fields import NO_DECIMALS, DecimalFields
from ringback.models.templates.scope import build_event_facts, build_scope
from ringback.models.templates.template import (
    compile_condition,
    compile_template,
    is_condition_compiled,
    is_template_compiled,
)
from ringback.models.webhook import Webhook

logger = structlog.get_logger("ringback.delivery")

#: Seconds of rendering after which the event loop gets a turn.
TURN_SECONDS = 0.005
#: Seconds that one request may take on the event loop. Most take less than 0.2 ms.
SLOW_SECONDS = 0.002
#: Characters of a faulty URL or header value that a message quotes.
MAX_QUOTED_CHARACTERS = 200
_PENDING_AND_FALSE = (
    "The condition is false. It was not evaluated when the change was recorded, because conditions took too long then. "
    "Simplify the slow conditions of this model's webhooks"
)


class Renderer:
    """Rendering that does not block the event loop for long.

    Requests that differ only in a small item, sent as JSON, need no rendering and are made at once.

    The loop gets a turn after every 5 ms of rendering. A request that is not rendered after 2 ms of CPU is started
    again in a thread, where its templates may use 50 ms together (`models.templates.budget`). The next requests of its
    webhook are rendered in the thread too, until one of them takes less than 2 ms. So are requests with long templates
    that have yet to be compiled.

    There is one thread, because more would compete with the loop for the interpreter and render no faster. Each webhook
    has at most one request in its queue, so that slow webhooks take turns.
    """

    def __init__(self, redaction: Redaction = DEFAULT) -> None:
        self._redaction = redaction
        self._plans = RequestPlans()
        self._seconds_this_turn = 0.0
        self._is_turn_scheduled = False
        #: Webhooks to render in the thread, with the lock that each request holds.
        self._slow: dict[UUID, asyncio.Lock] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ringback-render")

    async def render(
        self,
        webhook: Webhook,
        event: ClaimedEvent,
        change: ClaimedChange | None,
        decimals: DecimalFields = NO_DECIMALS,
    ) -> OutgoingRequest:
        """Render a request; raises TemplateError. An unexpected exception is logged, and the error holds its log id.

        `decimals` are the decimal fields of the event's model.
        """
        plan = self._plans.find(webhook)
        if plan is not None and plan.item_template is not None and change is not None and webhook.id not in self._slow:
            item = change.item_json.encode()
            if len(item) < LARGE_BYTES:
                return OutgoingRequest(template=plan.item_template, body=item)
        work = _Work(webhook, event, change, decimals)
        # Another request of the webhook may find out, during the wait, that it is slow.
        while webhook.id not in self._slow and self._seconds_this_turn >= TURN_SECONDS:
            await self._yield_to_loop()
        if webhook.id not in self._slow and self._is_compiled(webhook):
            # On a busy machine a pause would extend the limit. If a garbage collection takes it up, the thread renders.
            meter = Meter(SLOW_SECONDS * 1000, max_pause_ms=0)
            try:
                return self._render_on_loop(work, meter)
            except TemplateError:
                if not meter.is_time_up:
                    raise
        async with self._slow.setdefault(webhook.id, asyncio.Lock()):
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._render_in_thread, work)

    def close(self) -> None:
        """Let the thread end."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _is_compiled(self, webhook: Webhook) -> bool:
        """Return whether rendering will compile no more than a few short templates."""
        if not self._plans.has_long_texts(webhook):
            return True
        if webhook.condition is not None and not is_condition_compiled(webhook.condition):
            return False
        return all(map(is_template_compiled, list_templates(webhook)))

    async def _yield_to_loop(self) -> None:
        """Give the loop a turn. All requests that wait for it share the next TURN_SECONDS."""
        if not self._is_turn_scheduled:
            self._is_turn_scheduled = True
            asyncio.get_running_loop().call_soon(self._start_turn)
        await asyncio.sleep(0)

    def _start_turn(self) -> None:
        self._seconds_this_turn = 0.0
        self._is_turn_scheduled = False

    def _render_on_loop(self, work: "_Work", meter: Meter) -> OutgoingRequest:
        started = perf_counter()
        try:
            return self._render(work, meter)
        finally:
            seconds = perf_counter() - started
            self._seconds_this_turn += seconds
            if seconds > SLOW_SECONDS:
                self._slow.setdefault(work.webhook.id, asyncio.Lock())

    def _render_in_thread(self, work: "_Work") -> OutgoingRequest:
        started = thread_time()
        try:
            return self._render(work, Meter())
        finally:
            # CPU time: a busy machine makes no webhook slow for longer than one request.
            if thread_time() - started <= SLOW_SECONDS:
                self._slow.pop(work.webhook.id, None)

    def _render(self, work: "_Work", meter: Meter | None = None) -> OutgoingRequest:
        webhook, event, change, decimals = work
        try:
            plan = self._plans.get(webhook)
            return render(plan, webhook, event, change, decimals, redaction=self._redaction, meter=meter)
        except TemplateError:
            raise
        except Exception as error:
            error_id = uuid4().hex[:12]
            logger.exception("cannot render the request", action="render", event_id=str(event.id), error_id=error_id)
            raise TemplateError(f"The request cannot be rendered: internal error {error_id}") from error


class _Work(NamedTuple):
    """The inputs of one rendering."""

    webhook: Webhook
    event: ClaimedEvent
    change: ClaimedChange | None
    decimals: DecimalFields


def render(
    plan: RequestPlan,
    webhook: Webhook,
    event: ClaimedEvent,
    change: ClaimedChange | None,
    decimals: DecimalFields = NO_DECIMALS,
    *,
    redaction: Redaction = DEFAULT,
    meter: Meter | None = None,
) -> OutgoingRequest:
    """Render URL, headers and body; raises TemplateError, whose message names the part that failed.

    The request lacks the values of ATTEMPT_HEADERS, which `sign` adds. All templates together have the time of
    `meter`.
    """
    texts = _Texts(event, change, decimals, redaction, meter)
    if webhook.condition is not None and not event.is_test:
        texts.check_condition(webhook.condition)
    values: tuple[str, ...] = ()
    template = plan.template
    if template is None:
        template, values = _render_head(plan, webhook, texts)
    body, note = _render_body(plan, webhook, texts)
    return OutgoingRequest(template=template, values=values, body=body, codec=plan.charset.codec, note=note)


def uses_liquid(webhook: Webhook) -> bool:
    """Return whether a delivery of this webhook may render Liquid."""
    return webhook.condition is not None or bool(list_templates(webhook))


def sign(rendered: OutgoingRequest, event: ClaimedEvent, *, timestamp: int, secret: str) -> OutgoingRequest:
    """Return the request with the headers of this attempt, signed as in Standard Webhooks; `timestamp` in Unix seconds.

    `Ringback-Attempt` is the number under which the attempt will be recorded: only the worker that claimed the event
    records it, and an attempt of a dead worker is recorded before the next one starts.
    """
    event_id = encode(Prefix.EVENT, event.id)
    event_type = f"{event.model}.{event.action.lower()}"
    number = str(event.attempt_count + 1)
    unix_time = str(timestamp)
    signature = compute_signature(event_id, unix_time, rendered.body or b"", secret)
    # In the order of ATTEMPT_HEADERS; the id goes out under two names.
    values = (*rendered.values, event_id, event_type, number, event_id, unix_time, signature)
    return OutgoingRequest(
        template=rendered.template, values=values, body=rendered.body, codec=rendered.codec, note=rendered.note
    )


class _Texts:
    """Rendered templates of one event. The names that templates see are made when the first template needs them."""

    def __init__(
        self,
        event: ClaimedEvent,
        change: ClaimedChange | None,
        decimals: DecimalFields,
        redaction: Redaction,
        meter: Meter | None,
    ) -> None:
        self.redaction = redaction
        self._event = event
        self._change = change
        self._decimals = decimals
        self._meter = meter
        self._names: dict[str, object] | None = None

    @property
    def body_json(self) -> str:
        """The item as JSON, as it is stored."""
        if self._change is None:
            return orjson.dumps(self._event.test_item or {}).decode()
        return self._change.item_json

    def render(self, part: str, source: str, encoder: BodyEncoder | None = None) -> str:
        """Render a template; raises TemplateError, whose message starts with `part`."""
        try:
            template = compile_template(source)
            if template.text is not None:
                return template.text
            return template.render(self._root_names(), self._decimals, encoder=encoder, meter=self._running_meter())
        except TemplateError as error:
            raise _part_error(part, error) from error

    def render_header(self, name: str, source: str) -> str:
        """Render a header's value; raises TemplateError."""
        value = self.render(f"The header {name}", source).strip()
        fault = check_header_value(value)
        if fault is None:
            return value
        rendered = f"rendered as {self.redaction.redact_text(value)[:MAX_QUOTED_CHARACTERS]!r}"
        if self.redaction.is_secret(name):
            rendered = "which is secret"
        raise TemplateError(f"The value of the header {name}, {rendered}, {fault}")

    def check_condition(self, condition: str) -> None:
        """Evaluate the condition for its errors: raises TemplateError.

        Its value was tested at the change, unless it is pending. Then false raises TemplateError too.
        """
        try:
            is_true = compile_condition(condition).holds(self._root_names(), self._decimals, self._running_meter())
        except TemplateError as error:
            raise _part_error("The condition", error) from error
        if self._event.condition_pending and not is_true:
            raise TemplateError(_PENDING_AND_FALSE)

    def _running_meter(self) -> Meter:
        if self._meter is None:
            self._meter = Meter()
        return self._meter

    def _root_names(self) -> dict[str, object]:
        if self._names is None:
            item = self._event.test_item or {}
            if self._change is not None:
                item = self._change.item
            self._names = build_scope(item, build_event_facts(self._event, self._change))
        return self._names


def _part_error(part: str, error: TemplateError) -> TemplateError:
    return TemplateError(f"{part} cannot be rendered: {error}")


def _render_head(plan: RequestPlan, webhook: Webhook, texts: _Texts) -> tuple[RequestTemplate, tuple[str, ...]]:
    """Render URL and headers that hold Liquid; returns the template, and the values of its first headers."""
    target = plan.target
    if target is None:
        url = texts.render("The URL", webhook.url).strip()
        target = _parse_rendered_url(url, plan.dot_segments, texts.redaction)
    headers = list(plan.default_headers)
    for name, source in webhook.headers:
        headers.append((name, texts.render_header(name, source)))
    names = tuple([name for name, _ in headers])
    values = tuple([value for _, value in headers])
    return make_request_template(plan.method, target, names + ATTEMPT_HEADERS), values


class _Body(NamedTuple):
    """A rendered body, and how it differs from its text."""

    data: bytes | None
    note: str | None = None


def _render_body(plan: RequestPlan, webhook: Webhook, texts: _Texts) -> _Body:
    """Render the body and encode it in the charset of its content type."""
    if not plan.has_body:
        return _Body(None)
    if not plan.charset.is_utf8:
        return _render_body_in_charset(plan.charset, webhook, texts)
    if webhook.send_json:
        return _Body(texts.body_json.encode())
    return _Body(texts.render("The body", webhook.body_template).encode())


def _render_body_in_charset(charset: BodyCharset, webhook: Webhook, texts: _Texts) -> _Body:
    encoder = BodyEncoder(charset)
    if webhook.send_json:
        return _Body(encoder.encode_json(texts.body_json))
    body = encoder.encode(texts.render("The body", webhook.body_template, encoder))
    if not encoder.has_replaced:
        return _Body(body)
    return _Body(body, f"The body has characters that {charset.label} lacks; they were sent as question marks.")


@lru_cache(1_024)
def _parse_rendered_url(url: str, dot_segments: int, redaction: Redaction) -> Target:
    problems = check_url(url, allowed_dot_segments=dot_segments)
    if problems:
        quoted = redaction.redact_url(url)[:MAX_QUOTED_CHARACTERS]
        raise TemplateError(f"The URL, rendered as {quoted!r}, cannot be used: {' '.join(problems)}")
    return parse_target(url)
