"""The rules that a webhook must satisfy before it is saved."""

import re
from collections.abc import Mapping, Set
from dataclasses import replace
from typing import NamedTuple

from ringback.models.database.sql import is_storable
from ringback.models.enums import Action, HttpMethod
from ringback.models.errors import ProblemCode, TemplateError
from ringback.models.security.address_policy import AddressPolicy
from ringback.models.security.inbox_addresses import InboxAddresses
from ringback.models.security.signing import ID_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER
from ringback.models.security.url_rules import MAX_URL_CHARS, check_header_value
from ringback.models.services import webhook_models
from ringback.models.services.slow_checks import SlowChecks
from ringback.models.services.url_check import UrlCheck, has_liquid
from ringback.models.services.validation import TOKEN, Problems
from ringback.models.services.webhook_models import WatchableModel
from ringback.models.services.webhook_spec import WebhookSpec
from ringback.models.settings import MAX_CONCURRENCY
from ringback.models.templates.budget import MAX_SHORT_CHARACTERS, MAX_SOURCE_BYTES, Meter
from ringback.models.templates.charset import find_charset_problem
from ringback.models.templates.field_info import types_by_path
from ringback.models.templates.validation import check_condition, check_template

MAX_NAME_CHARS = 200
MAX_CONTENT_TYPE_CHARS = 200
#: A URL with Liquid may be longer than the URL that it renders to.
MAX_URL_TEMPLATE_CHARS = 8_192
MAX_HEADERS = 50
MAX_HEADER_NAME_CHARS = 256
MAX_CONDITION_CHARS = 8_192
MAX_ATTEMPTS = 20
MAX_DELAY_SECONDS = 7 * 24 * 3600
MIN_TIMEOUT_SECONDS, MAX_TIMEOUT_SECONDS = 0.1, 30.0
#: Attempts per second.
MIN_RATE, MAX_RATE = 0.01, 10_000.0
#: The start of a template for JSON: after tags, an object, a list, or an output that ends in the filter `json`.
_JSON_START = re.compile(r"(?:\s|\{%.*?%\})*+(?:\{(?!\{)|\[|\{\{[^}]*\|\s*json\s*-?\}\})", re.DOTALL)

#: Headers that a webhook cannot set, in lower case, with the reason or the alternative.
RESERVED_HEADERS: Mapping[str, str] = {
    "host": "It follows from the URL.",
    "content-length": "It follows from the body.",
    "transfer-encoding": "It follows from the body.",
    **dict.fromkeys(
        ("connection", "expect", "keep-alive", "proxy-connection", "te", "trailer", "upgrade"),
        "The HTTP client sets it.",
    ),
    "content-type": "Set contentType instead.",
    **dict.fromkeys(
        ("ps-webhook_event-id", "ringback-event", "ringback-attempt", ID_HEADER, TIMESTAMP_HEADER, SIGNATURE_HEADER),
        "Ringback sets it.",
    ),
}

#: Fields that can be checked only if the webhook's model exists.
MODEL_DEPENDENT_FIELDS = frozenset({"model", "url", "body_template", "headers", "condition"})


class CheckedSpec(NamedTuple):
    """A spec that satisfies the rules, and the model that its templates were checked against.

    `model` is None if there is no such model and no checked field depends on it.
    """

    spec: WebhookSpec
    model: WatchableModel | None


class WebhookRules:
    """The rules for webhooks under one address policy."""

    def __init__(self, policy: AddressPolicy, inboxes: InboxAddresses) -> None:
        self._url_check = UrlCheck(policy, inboxes)
        #: Checks of a webhook's templates, by whether they are long: short ones do not wait for long ones.
        self._template_checks = {False: SlowChecks(), True: SlowChecks()}

    async def check(self, spec: WebhookSpec, names: Set[str]) -> CheckedSpec:
        """Check the named fields of a spec, and return it with its texts stripped.

        The other fields are not checked: if a rule has become stricter, an old webhook can still be deactivated. Raises
        InputRejected with all problems.
        """
        problems = Problems()
        model = await webhook_models.find(spec.model)
        if model is None and names & MODEL_DEPENDENT_FIELDS:
            hint = await webhook_models.suggest_names(spec.model)
            problems.add("model", f"There is no model {spec.model!r:.100}.{hint}", ProblemCode.NOT_FOUND)
        if "name" in names:
            name = problems.check_line("name", spec.name, max_chars=MAX_NAME_CHARS, required=False)
            spec = replace(spec, name=name)
        if "actions" in names:
            spec = replace(spec, actions=_check_actions(problems, spec.actions))
        _check_schedule(problems, spec, names)
        _check_limits(problems, spec, names)
        if "content_type" in names:
            content_type = problems.check_media_type(
                "content_type", spec.content_type, max_chars=MAX_CONTENT_TYPE_CHARS, required=False
            )
            _check_charset(problems, content_type)
            spec = replace(spec, content_type=content_type)
        if "url" in names:
            await self._check_url(problems, spec.url)
        if "headers" in names:
            _check_headers(problems, spec.headers)
        if "condition" in names:
            condition = problems.check_text("condition", spec.condition, max_chars=MAX_CONDITION_CHARS)
            spec = replace(spec, condition=condition)
        if model is not None:
            checks = self._template_checks[_has_long_texts(spec)]
            await checks.run(_check_templates, problems, spec, names, model)
        problems.raise_if_any()
        return CheckedSpec(spec, model)

    async def _check_url(self, problems: Problems, url: str) -> None:
        max_chars = MAX_URL_TEMPLATE_CHARS if has_liquid(url) else MAX_URL_CHARS
        if len(url) > max_chars:
            problems.add_too_large("url", len(url), "characters", max_chars)
            return
        if not is_storable(url):
            problems.add("url", "url contains a NUL or lone surrogate character. Remove it.")
            return
        for fault in await self._url_check.find_problems(url):
            problems.add("url", fault)


def warn_of_body(spec: WebhookSpec) -> list[str]:
    """Return a warning if requests will have another body or content type than the author probably expects."""
    has_template = bool(spec.body_template.strip())
    if spec.send_json and has_template:
        return ["sendJson is true, so bodyTemplate is ignored. Set sendJson: false, or an empty bodyTemplate."]
    if spec.send_json:
        return []
    if has_template and not spec.content_type and _JSON_START.match(spec.body_template):
        return [
            "bodyTemplate looks like JSON, but is sent as application/x-www-form-urlencoded. "
            'Set contentType: "application/json".'
        ]
    if has_template or spec.method in (HttpMethod.GET, HttpMethod.DELETE):
        return []
    return [f"{spec.method} requests will have an empty body. Set bodyTemplate, or sendJson: true."]


def _has_long_texts(spec: WebhookSpec) -> bool:
    header_values = [value for _, value in spec.headers]
    texts = (spec.url, spec.body_template, spec.condition or "", *header_values)
    return sum(map(len, texts)) > MAX_SHORT_CHARACTERS


def _check_actions(problems: Problems, actions: tuple[Action, ...]) -> tuple[Action, ...]:
    """Return the actions in their usual order, each once."""
    if not actions:
        problems.add("actions", "actions is empty. Enter at least one of CREATED, UPDATED and DELETED.")
    return tuple(action for action in Action if action in actions)


def _check_charset(problems: Problems, content_type: str | None) -> None:
    if content_type is None:
        return
    message = find_charset_problem(content_type)
    if message is not None:
        problems.add("content_type", message)


def _check_schedule(problems: Problems, spec: WebhookSpec, names: Set[str]) -> None:
    if "retry_delays_seconds" in names:
        _check_retry_delays(problems, spec.retry_delays_seconds)
    if "timeout_seconds" in names and not MIN_TIMEOUT_SECONDS <= spec.timeout_seconds <= MAX_TIMEOUT_SECONDS:
        limits = f"{MIN_TIMEOUT_SECONDS} to {MAX_TIMEOUT_SECONDS:g} seconds"
        message = f"timeoutSeconds is {spec.timeout_seconds}. Enter {limits}."
        problems.add("timeout_seconds", message)


def _check_retry_delays(problems: Problems, delays: tuple[int, ...]) -> None:
    if not delays:
        message = "retryDelaysSeconds is empty. Enter at least one delay: each is one attempt."
        problems.add("retry_delays_seconds", message)
    elif len(delays) > MAX_ATTEMPTS:
        message = f"retryDelaysSeconds has {len(delays)} entries. Enter at most {MAX_ATTEMPTS}: each is one attempt."
        problems.add("retry_delays_seconds", message)
    for index, delay in enumerate(delays[:MAX_ATTEMPTS]):
        if not 0 <= delay <= MAX_DELAY_SECONDS:
            message = f"retryDelaysSeconds[{index}] is {delay}. Enter 0 to {MAX_DELAY_SECONDS:,} seconds (7 days)."
            problems.add(f"retry_delays_seconds[{index}]", message)


def _check_limits(problems: Problems, spec: WebhookSpec, names: Set[str]) -> None:
    concurrency, rate = spec.max_concurrency, spec.rate_limit_per_second
    if "max_concurrency" in names and concurrency is not None and not 1 <= concurrency <= MAX_CONCURRENCY:
        message = f"maxConcurrency is {concurrency}. Enter 1 to {MAX_CONCURRENCY:,}, or null for the server's default."
        problems.add("max_concurrency", message)
    if "rate_limit_per_second" in names and rate is not None and not MIN_RATE <= rate <= MAX_RATE:
        limits = f"{MIN_RATE} to {MAX_RATE:,.0f} attempts per second"
        message = f"rateLimitPerSecond is {rate}. Enter {limits}, or null for no limit."
        problems.add("rate_limit_per_second", message)


def _check_headers(problems: Problems, headers: tuple[tuple[str, str], ...]) -> None:
    if len(headers) > MAX_HEADERS:
        problems.add_too_large("headers", len(headers), "entries", MAX_HEADERS)
    for index, (name, value) in enumerate(headers[:MAX_HEADERS]):
        reserved = RESERVED_HEADERS.get(name.lower())
        if len(name) > MAX_HEADER_NAME_CHARS:
            problems.add_too_large(f"headers[{index}].name", len(name), "characters", MAX_HEADER_NAME_CHARS)
        elif not TOKEN.fullmatch(name):
            problems.add(
                f"headers[{index}].name", f"{name!r:.80} is not a valid header name. Enter a name such as X-Shop."
            )
        elif reserved is not None:
            problems.add(f"headers[{index}].name", f"The header {name} cannot be set here. {reserved}")
        fault = check_header_value(value)
        if fault is not None:
            problems.add(f"headers[{index}].value", f"headers[{index}].value {fault}.")


def _check_templates(problems: Problems, spec: WebhookSpec, names: Set[str], model: WatchableModel) -> None:
    paths = webhook_models.template_paths(model.fields)
    types = types_by_path(model.fields)
    templates: list[tuple[str, str]] = []
    if "body_template" in names and _check_body_template(problems, spec.body_template):
        templates.append(("body_template", spec.body_template))
    if "url" in names and len(spec.url) <= MAX_URL_TEMPLATE_CHARS and is_storable(spec.url):
        templates.append(("url", spec.url))
    if "headers" in names:
        for index, (_, value) in enumerate(spec.headers[:MAX_HEADERS]):
            if check_header_value(value) is None:
                templates.append((f"headers[{index}].value", value))
    meter = Meter()
    for field, source in templates:
        for error in check_template(source, fields=paths, types=types, sample=model.sample, meter=meter):
            _add_template_error(problems, field, error)
    if "condition" in names and spec.condition is not None:
        for error in check_condition(spec.condition, fields=paths, types=types):
            _add_template_error(problems, "condition", error)


def _check_body_template(problems: Problems, source: str) -> bool:
    """Return whether the body template can be parsed: it is not blank, not too large and can be stored."""
    size = len(source.encode("utf-8", "surrogatepass"))
    if size > MAX_SOURCE_BYTES:
        problems.add_too_large("body_template", size, "bytes", MAX_SOURCE_BYTES)
        return False
    return problems.check_text("body_template", source, max_chars=MAX_SOURCE_BYTES) is not None


def _add_template_error(problems: Problems, field: str, error: TemplateError) -> None:
    problems.add(field, f"{error}.")
