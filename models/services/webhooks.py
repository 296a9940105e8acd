"""What administrators do with webhooks: create, change, delete, with every rule that they must keep."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from tortoise.backends.base.client import BaseDBAsyncClient
from tortoise.transactions import in_transaction

from ringback.models.database import advisory_locks, clock
from ringback.models.database.sql import is_storable, lock
from ringback.models.enums import Action, HttpMethod, SuccessPolicy
from ringback.models.errors import InputRejected, Problem, ProblemCode
from ringback.models.ids import Prefix
from ringback.models.security.address_policy import AddressPolicy
from ringback.models.security.inbox_addresses import InboxAddresses
from ringback.models.security.secret_box import SecretBox
from ringback.models.security.signing import ID_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER, new_signing_secret
from ringback.models.security.url_rules import MAX_URL_CHARS, check_url_template, header_value_fault, static_host
from ringback.models.services import events, webhook_models
from ringback.models.services.validation import TOKEN, Problems, check_unchanged, parse_id, require_found
from ringback.models.services.webhook_models import WatchableModel
from ringback.models.settings import MAX_CONCURRENCY, MAX_TIMEOUT_SECONDS
from ringback.models.templates.budget import MAX_SOURCE_BYTES
from ringback.models.templates.validation import check_condition, check_template
from ringback.models.webhook import DEFAULT_RETRY_DELAYS_SECONDS, DEFAULT_TIMEOUT_SECONDS, Webhook

MAX_NAME = 200
#: Of a URL template; a URL without Liquid has the limit of all URLs.
MAX_URL = 8_192
MAX_HEADERS = 50
MAX_CONDITION = 8_192
MAX_ATTEMPTS = 20
MAX_DELAY_SECONDS = 7 * 24 * 3600
MIN_TIMEOUT_SECONDS = 0.1
MIN_RATE, MAX_RATE = 0.01, 10_000.0

#: Headers that Ringback or the HTTP client sets (rule 5), with what to do instead.
RESERVED_HEADERS: Mapping[str, str] = {
    "host": "it follows from the URL",
    "content-length": "it follows from the body",
    "transfer-encoding": "it follows from the body",
    **dict.fromkeys(
        ("connection", "expect", "keep-alive", "proxy-connection", "te", "trailer", "upgrade"),
        "the HTTP client decides it",
    ),
    "content-type": "set contentType instead",
    **dict.fromkeys(
        ("ps-webhook_event-id", "ringback-event", "ringback-attempt", ID_HEADER, TIMESTAMP_HEADER, SIGNATURE_HEADER),
        "Ringback sets it",
    ),
}


@dataclass(frozen=True, slots=True)
class WebhookSpec:
    """A webhook as an administrator writes it; `headers` are pairs of name and value."""

    model: str
    actions: tuple[Action, ...]
    url: str
    name: str | None = None
    method: HttpMethod = HttpMethod.POST
    is_active: bool = True
    send_json: bool = False
    body_template: str = ""
    content_type: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    condition: str | None = None
    retry_delays_seconds: tuple[int, ...] = DEFAULT_RETRY_DELAYS_SECONDS
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS
    success_policy: SuccessPolicy = SuccessPolicy.STATUS_200
    max_concurrency: int | None = None
    rate_limit_per_second: float | None = None


#: What an update may set to null.
CLEARABLE = frozenset({"name", "content_type", "condition", "max_concurrency", "rate_limit_per_second"})


class Webhooks:
    """The webhooks of a database, under one address policy."""

    def __init__(self, policy: AddressPolicy, inboxes: InboxAddresses, secrets: SecretBox) -> None:
        self._policy = policy
        self._inboxes = inboxes
        self._secrets = secrets
        self._checking = asyncio.Lock()

    async def create(self, spec: WebhookSpec) -> tuple[Webhook, str]:
        """Create a webhook; returns it with its signing secret, which is shown this once. Raises InputRejected."""
        spec, model = await self._checked(spec, _NAMES)
        secret = new_signing_secret()
        async with in_transaction() as db:
            await _check_unchanged_model(db, spec.model, model)
            now = await clock.now(db)
            webhook = Webhook(signing_secret=self._secrets.seal(secret), created_at=now, updated_at=now)
            _apply(webhook, spec)
            await webhook.save(using_db=db, force_create=True)
        return webhook, secret

    async def update(self, webhook_id: str, changes: Mapping[str, Any], expected_updated_at: Any = None) -> Webhook:
        """Change the given fields of a webhook; None clears a field that can be cleared. Raises InputRejected.

        Deactivating it cancels its waiting events (rule 9).
        """
        problems = Problems()
        problems.no_nulls(changes, clearable=CLEARABLE)
        problems.refuse_if_any()
        key = parse_id(Prefix.WEBHOOK, webhook_id)
        stored = require_found(await Webhook.get_or_none(id=key, deleted_at=None), "webhook", webhook_id)
        spec, model = await self._checked(replace(_spec(stored), **changes), frozenset(changes))
        async with in_transaction() as db:
            webhook = require_found(await lock(db, Webhook, id=key, deleted_at=None), "webhook", webhook_id)
            check_unchanged(webhook.updated_at, expected_updated_at)
            if changes.keys() & _OF_THE_MODEL:
                await _check_unchanged_model(db, spec.model, model)
            wanted = replace(_spec(webhook), **{name: getattr(spec, name) for name in changes})
            if wanted == _spec(webhook):
                return webhook
            deactivated = webhook.is_active and not wanted.is_active
            _apply(webhook, wanted)
            webhook.updated_at = await clock.now(db)
            await webhook.save(using_db=db)
            if deactivated:
                why = "Cancelled: the webhook was deactivated"
                await events.cancel_waiting(db, webhook, why, webhook.updated_at, tests=False)
        return webhook

    async def delete(self, webhook_id: str) -> None:
        """Delete a webhook softly and cancel its waiting events; its history stays. Raises InputRejected."""
        key = parse_id(Prefix.WEBHOOK, webhook_id)
        async with in_transaction() as db:
            webhook = require_found(await lock(db, Webhook, id=key, deleted_at=None), "webhook", webhook_id)
            now = await clock.now(db)
            webhook.deleted_at = webhook.updated_at = now
            webhook.is_active = False
            await webhook.save(using_db=db)
            await events.cancel_waiting(db, webhook, "Cancelled: the webhook was deleted", now, tests=True)

    async def _checked(self, spec: WebhookSpec, names: frozenset[str]) -> tuple[WebhookSpec, WatchableModel | None]:
        """The spec, tidied up, and its model; raises InputRejected with all that is wrong in the fields named."""
        problems = Problems()
        model = await webhook_models.find(spec.model)
        # A webhook whose model is tracked no more can still be renamed or switched off.
        if model is None and names & _OF_THE_MODEL:
            hint = await webhook_models.suggest_names(spec.model)
            problems.add("model", f"There is no model {spec.model!r:.100}{hint}", ProblemCode.NOT_FOUND)
        if "name" in names:
            spec = replace(spec, name=problems.line("name", spec.name, longest=MAX_NAME, required=False))
        if "actions" in names:
            spec = replace(spec, actions=tuple(a for a in Action if a in spec.actions))
            if not spec.actions:
                problems.add("actions", "Name at least one of CREATED, UPDATED, DELETED")
        if "retry_delays_seconds" in names:
            _check_retry_delays(problems, spec.retry_delays_seconds)
        if "timeout_seconds" in names and not MIN_TIMEOUT_SECONDS <= spec.timeout_seconds <= MAX_TIMEOUT_SECONDS:
            problems.add("timeout_seconds", f"must be from {MIN_TIMEOUT_SECONDS} to {MAX_TIMEOUT_SECONDS:g} seconds")
        _check_limits(problems, spec, names)
        if "content_type" in names:
            content_type = problems.media_type("content_type", spec.content_type, longest=MAX_NAME, required=False)
            spec = replace(spec, content_type=content_type)
        if "url" in names:
            await self._check_url(problems, spec.url)
        if "headers" in names:
            _check_headers(problems, spec.headers)
        if "condition" in names:
            spec = replace(spec, condition=problems.text("condition", spec.condition, longest=MAX_CONDITION))
        if model is not None:
            # Dozens of costly ones take seconds: not on the event loop, and one webhook at a time.
            async with self._checking:
                await asyncio.to_thread(_check_templates, problems, spec, names, model)
        problems.refuse_if_any()
        return spec, model

    async def _check_url(self, problems: Problems, url: str) -> None:
        has_liquid = "{{" in url or "{%" in url
        longest = MAX_URL if has_liquid else MAX_URL_CHARS
        if len(url) > longest:
            problems.add("url", f"has {len(url):,} characters; {longest:,} are allowed", ProblemCode.TOO_LARGE)
            return
        if not is_storable(url):
            problems.add("url", "must not hold NUL or lone surrogate characters")
            return
        faults = check_url_template(url)
        for message in faults:
            problems.add("url", message)
        host = static_host(url)
        if faults or host is None:
            return
        # Whether a template names an inbox is known only when it is rendered.
        if self._inboxes.is_here(host) if has_liquid else await self._inboxes.is_own(url):
            return
        refusal = self._policy.refusal_for_host(host)
        if refusal is not None:
            problems.add("url", refusal)


_NAMES = frozenset(f.name for f in fields(WebhookSpec))
_STORED_AS_GIVEN = _NAMES - {"actions", "headers", "retry_delays_seconds"}
#: What can be checked only against a model that is tracked.
_OF_THE_MODEL = frozenset({"model", "url", "body_template", "headers", "condition"})


def _spec(webhook: Webhook) -> WebhookSpec:
    return WebhookSpec(
        actions=tuple(Action(a) for a in webhook.actions),
        headers=tuple((name, value) for name, value in webhook.headers),
        retry_delays_seconds=tuple(webhook.retry_delays),
        **{name: getattr(webhook, name) for name in _STORED_AS_GIVEN},
    )


def _apply(webhook: Webhook, spec: WebhookSpec) -> None:
    for name in _STORED_AS_GIVEN:
        setattr(webhook, name, getattr(spec, name))
    webhook.actions = [a.value for a in spec.actions]
    webhook.headers = [[name, value] for name, value in spec.headers]
    webhook.retry_delays = list(spec.retry_delays_seconds)


async def _check_unchanged_model(db: BaseDBAsyncClient, name: str, checked: WatchableModel | None) -> None:
    """Raises InputRejected when the model that the templates were checked against was declared anew meanwhile."""
    if webhook_models.list_tracked(name) is None:
        await advisory_locks.hold(db, [webhook_models.lock_name(name)], shared=True)
    if await webhook_models.find(name, db) != checked:
        message = f"The model {name} was declared anew at this moment: try again."
        raise InputRejected(Problem(message, "model", ProblemCode.CONFLICT))


def _check_retry_delays(problems: Problems, delays: tuple[int, ...]) -> None:
    if not delays:
        problems.add("retry_delays_seconds", "must have at least one entry: each is one attempt")
    elif len(delays) > MAX_ATTEMPTS:
        problems.add("retry_delays_seconds", f"has {len(delays)} entries; at most {MAX_ATTEMPTS} attempts are allowed")
    for index, delay in enumerate(delays[:MAX_ATTEMPTS]):
        if not 0 <= delay <= MAX_DELAY_SECONDS:
            problems.add(f"retry_delays_seconds[{index}]", f"must be from 0 to {MAX_DELAY_SECONDS:,} seconds (7 days)")


def _check_limits(problems: Problems, spec: WebhookSpec, names: frozenset[str]) -> None:
    concurrency, rate = spec.max_concurrency, spec.rate_limit_per_second
    if "max_concurrency" in names and concurrency is not None and not 1 <= concurrency <= MAX_CONCURRENCY:
        problems.add("max_concurrency", f"must be from 1 to {MAX_CONCURRENCY:,}, or null for the setting's bound")
    if "rate_limit_per_second" in names and rate is not None and not MIN_RATE <= rate <= MAX_RATE:
        message = f"must be from {MIN_RATE} to {MAX_RATE:,.0f} attempts a second, or null for no limit"
        problems.add("rate_limit_per_second", message)


def _check_headers(problems: Problems, headers: tuple[tuple[str, str], ...]) -> None:
    if len(headers) > MAX_HEADERS:
        problems.add("headers", f"has {len(headers)} entries; {MAX_HEADERS} are allowed", ProblemCode.TOO_LARGE)
    for index, (name, value) in enumerate(headers[:MAX_HEADERS]):
        if not TOKEN.fullmatch(name):
            problems.add(f"headers[{index}].name", f"{name!r:.80} is not a legal header name")
        elif name.lower() in RESERVED_HEADERS:
            problems.add(f"headers[{index}].name", f"{name} cannot be set here: {RESERVED_HEADERS[name.lower()]}")
        fault = header_value_fault(value)
        if fault is not None:
            problems.add(f"headers[{index}].value", fault)


def _check_templates(problems: Problems, spec: WebhookSpec, names: frozenset[str], model: WatchableModel) -> None:
    paths = webhook_models.paths_of(model.fields)
    sources: list[tuple[str, str]] = []
    if "body_template" in names:
        size = len(spec.body_template.encode("utf-8", "surrogatepass"))
        if size > MAX_SOURCE_BYTES:
            message = f"has {size:,} bytes; {MAX_SOURCE_BYTES:,} are allowed"
            problems.add("body_template", message, ProblemCode.TOO_LARGE)
        else:
            source = problems.text("body_template", spec.body_template, longest=MAX_SOURCE_BYTES)
            if source:
                sources.append(("body_template", source))
    if "url" in names and len(spec.url) <= MAX_URL and is_storable(spec.url):
        sources.append(("url", spec.url))
    if "headers" in names:
        for index, (_, value) in enumerate(spec.headers[:MAX_HEADERS]):
            if header_value_fault(value) is None:
                sources.append((f"headers[{index}].value", value))
    for field, source in sources:
        for error in check_template(source, fields=paths, sample=model.sample):
            problems.add(field, str(error))
    if "condition" in names and spec.condition is not None:
        for error in check_condition(spec.condition, fields=paths):
            problems.add("condition", str(error))
