"""From a webhook, an event and its snapshot to the request that goes out (rules 3 and 5 of the design)."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from time import perf_counter, thread_time
from typing import NamedTuple
from uuid import UUID, uuid4

import orjson
import structlog
from yarl import URL

from ringback.jobs.http.request import OutgoingRequest, RequestTemplate, make_request_template
from ringback.jobs.redaction import is_secret
from ringback.jobs.request_plan import OWN_HEADERS, RequestPlan, RequestPlans
from ringback.models.errors import TemplateError
from ringback.models.ids import Prefix, encode
from ringback.models.queue.claims import ClaimedChange, ClaimedEvent
from ringback.models.security.signing import compute_signature
from ringback.models.security.url_rules import check_url, header_value_fault
from ringback.models.templates.scope import event_facts, scope
from ringback.models.templates.template import compile_condition, compile_template
from ringback.models.webhook import Webhook

logger = structlog.get_logger("ringback.delivery")

#: So many seconds of rendering at a stretch, then the loop has its turn.
STRETCH_SECONDS = 0.005
#: Threads for slow webhooks.
RENDER_THREADS = 4


class RenderedRequest(NamedTuple):
    """What templates make of a request; signing adds the values of the last headers, when it is sent."""

    event_id: str
    template: RequestTemplate
    values: tuple[str, ...]
    body: bytes | None

    @property
    def url(self) -> URL:
        """Where it goes."""
        return self.template.url


class _Texts:
    """Renders texts with the names that templates see, which are made when the first text needs them."""

    def __init__(self, event: ClaimedEvent, change: ClaimedChange | None) -> None:
        self._event = event
        self._change = change
        self._names: dict[str, object] | None = None

    @property
    def names(self) -> dict[str, object]:
        """The root names."""
        if self._names is None:
            item = self._change.item if self._change is not None else self._event.test_item or {}
            self._names = scope(item, event_facts(self._event, self._change))
        return self._names

    def render(self, source: str) -> str:
        """A template's text; raises TemplateError."""
        template = compile_template(source)
        return template.render(self.names) if template.text is None else template.text

    def header(self, name: str, source: str) -> str:
        """A header's value; raises TemplateError."""
        value = _part(f"The header {name}", lambda: self.render(source)).strip()
        fault = header_value_fault(value)
        if fault is not None:
            shown = "a secret value" if is_secret(name) else repr(value[:200])
            raise TemplateError(f"The header {name} was rendered to {shown}, which {fault}")
        return value


class Renderer:
    """Renders without holding up the loop: it pauses between short stretches, and takes slow templates to a thread.

    A template may use 50 ms of CPU (models.templates.budget), and a webhook has up to 53 of them. Whose last request
    took longer than a stretch is rendered in a thread the next time, one request of a webhook at a time, so that it
    holds up only itself; all others are not worth the way there. What counts is CPU time, so that a busy machine
    accuses nobody; reading it is dear, so only those are measured by it who took too long by the wall clock.
    """

    def __init__(self) -> None:
        self._plans = RequestPlans()
        self._stretch = 0.0
        self._pausing = False
        self._suspected: set[UUID] = set()
        self._slow: dict[UUID, asyncio.Lock] = {}
        self._threads = ThreadPoolExecutor(RENDER_THREADS, thread_name_prefix="ringback-render")

    async def render(self, webhook: Webhook, event: ClaimedEvent, change: ClaimedChange | None) -> RenderedRequest:
        """Render a request; raises TemplateError. Of an error of our own, it holds the id of the log line."""
        turn = self._slow.get(webhook.id) if self._slow else None
        if turn is not None:
            async with turn:
                loop = asyncio.get_running_loop()
                return await loop.run_in_executor(self._threads, self._timed, webhook, event, change)
        while self._stretch >= STRETCH_SECONDS:
            await self._pause()
        return self._timed(webhook, event, change)

    def close(self) -> None:
        """Let the threads end."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _pause(self) -> None:
        """Let the loop have its turn; after it, whoever waits has a new stretch between them."""
        if not self._pausing:
            self._pausing = True
            asyncio.get_running_loop().call_soon(self._go_on)
        await asyncio.sleep(0)

    def _go_on(self) -> None:
        self._stretch, self._pausing = 0.0, False

    def _timed(self, webhook: Webhook, event: ClaimedEvent, change: ClaimedChange | None) -> RenderedRequest:
        suspected = bool(self._suspected) and webhook.id in self._suspected
        clock = thread_time if suspected else perf_counter
        started = clock()
        try:
            return render(self._plans.of(webhook), webhook, event, change)
        except TemplateError:
            raise
        except Exception as error:
            error_id = uuid4().hex[:12]
            logger.exception("cannot render", action="render", event_id=str(event.id), error_id=error_id)
            raise TemplateError(f"The request cannot be rendered: internal error {error_id}") from error
        finally:
            took = clock() - started
            self._stretch += took
            if took > STRETCH_SECONDS and suspected:
                self._slow.setdefault(webhook.id, asyncio.Lock())
            elif took > STRETCH_SECONDS:
                self._suspected.add(webhook.id)
            elif suspected:
                self._suspected.discard(webhook.id)
                self._slow.pop(webhook.id, None)


def render(plan: RequestPlan, webhook: Webhook, event: ClaimedEvent, change: ClaimedChange | None) -> RenderedRequest:
    """Render URL, headers and body; raises TemplateError with a sentence that says which of them failed and why."""
    texts = _Texts(event, change)
    if webhook.condition is not None and not event.is_test:
        condition = webhook.condition
        _part("The condition", lambda: str(compile_condition(condition).holds(texts.names)))
    made, values = (plan.template, ()) if plan.template is not None else _framed(plan, webhook, texts)
    body: bytes | None = None
    if webhook.send_json:
        body = change.item_json.encode() if change is not None else orjson.dumps(event.test_item or {})
    elif plan.has_body:
        body = _part("The body", lambda: texts.render(webhook.body_template)).encode()
    event_id = encode(Prefix.EVENT, event.id)
    return RenderedRequest(event_id, made, (*values, event_id, f"{event.model}.{event.action.lower()}"), body)


def _framed(plan: RequestPlan, webhook: Webhook, texts: _Texts) -> tuple[RequestTemplate, tuple[str, ...]]:
    """The template of a request whose URL or headers hold Liquid, and the values of the first of its headers."""
    url = plan.url or _target(_part("The URL", lambda: texts.render(webhook.url)).strip())
    headers = (*plan.first, *[(name, texts.header(name, value)) for name, value in webhook.headers])
    names = tuple([name for name, _ in headers])
    return make_request_template(plan.method, url, names + OWN_HEADERS), tuple([value for _, value in headers])


def sign(rendered: RenderedRequest, event: ClaimedEvent, *, timestamp: int, secret: str) -> OutgoingRequest:
    """The request with the headers of this attempt: its number and Standard Webhooks'; `timestamp` in Unix seconds.

    The number is the one that the attempt will be recorded with, whatever becomes of it: only who holds the event's
    lease records, and an attempt whose worker died is recorded before the next one begins.
    """
    event_id, made, values, body = rendered
    moment = str(timestamp)
    number = str(event.attempt_count + 1)
    signed = compute_signature(event_id, moment, body or b"", secret)
    return OutgoingRequest(made, (*values, number, event_id, moment, signed), body)


@lru_cache(1_024)
def _target(url: str) -> URL:
    problems = check_url(url)
    if problems:
        raise TemplateError(f"The URL was rendered to {url[:200]!r}, which cannot be used: {'; '.join(problems)}")
    return URL(url)


def _part(what: str, make: Callable[[], object]) -> str:
    try:
        return str(make())
    except TemplateError as error:
        raise TemplateError(f"{what} cannot be rendered: {error}") from error
