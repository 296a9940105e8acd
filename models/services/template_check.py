"""Find active webhooks whose URLs, content types or templates would be refused today.

A webhook is checked when it is saved, but rules may have become stricter, and a model may have lost fields. The webhook
goes on as it is; attempts at an address or a port that is refused end as BLOCKED.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256

import structlog
from tortoise.exceptions import BaseORMException

from ringback.models.ids import Prefix, encode
from ringback.models.services import webhook_models
from ringback.models.services.url_check import UrlCheck
from ringback.models.services.webhook_models import WatchableModel
from ringback.models.services.webhook_spec import PlacedTemplate, list_templates
from ringback.models.templates.charset import find_charset_problem
from ringback.models.templates.field_info import types_by_path
from ringback.models.templates.validation import find_problems
from ringback.models.webhook import Webhook

logger = structlog.get_logger("ringback.webhooks")

#: Webhooks read at once.
PAGE = 100
#: Seconds between two pages. The check of a page takes 4 ms, and deliveries that are due at the start come first.
PAUSE_SECONDS = 1.0
#: Lines logged. All webhooks of a model may use a field that it lost.
MAX_LOGGED = 100
_COLUMNS = ("id", "name", "model", "url", "headers", "send_json", "content_type", "body_template", "condition")


@dataclass(frozen=True, slots=True)
class RefusedTemplate:
    """A text of a webhook that would be refused, and why. Example of a place: headers[0].value."""

    webhook: Webhook
    place: str
    problems: tuple[str, ...]


async def log_refused_templates(url_check: UrlCheck) -> None:
    """Log a warning for each text that would be refused, up to MAX_LOGGED, and how many more there are.

    A failure of the database is logged too: it must not end the program.
    """
    count = 0
    try:
        async for refused in find_refused_templates(url_check):
            count += 1
            if count <= MAX_LOGGED:
                _log(refused)
    except BaseORMException as error:
        logger.warning("cannot check the templates of webhooks", action="check_webhooks", reason=str(error))
    if count > MAX_LOGGED:
        logger.warning(
            "more URLs, content types and templates would be refused today",
            action="check_webhooks",
            more=count - MAX_LOGGED,
        )


async def find_refused_templates(url_check: UrlCheck) -> AsyncIterator[RefusedTemplate]:
    """Yield what would be refused of active webhooks, in the order of the webhooks' ids."""
    checker = _Checker()
    webhooks = Webhook.filter(is_active=True, deleted_at=None).order_by("id").limit(PAGE)
    page = await webhooks.only(*_COLUMNS)
    while page:
        declared = await webhook_models.find_declared({webhook.model for webhook in page})
        for webhook in page:
            problems = await url_check.find_problems(webhook.url)
            if problems:
                yield RefusedTemplate(webhook=webhook, place="url", problems=tuple(problems))
            charset_problem = _find_charset_problem(webhook)
            if charset_problem is not None:
                yield RefusedTemplate(webhook=webhook, place="contentType", problems=(charset_problem,))
            model = webhook_models.find_tracked(webhook.model) or declared.get(webhook.model)
            templates = _list_liquid(webhook)
            if model is not None and templates:
                # A stop waits for the thread.
                for refused in await asyncio.to_thread(checker.check, webhook, model, templates):
                    yield refused
        if len(page) < PAGE:
            return
        await asyncio.sleep(PAUSE_SECONDS)
        page = await webhooks.filter(id__gt=page[-1].id).only(*_COLUMNS)


def _list_liquid(webhook: Webhook) -> list[PlacedTemplate]:
    """Return the condition and the templates with Liquid of a webhook."""
    return [template for template in list_templates(webhook) if template.is_condition or "{" in template.text]


def _find_charset_problem(webhook: Webhook) -> str | None:
    if webhook.content_type is None:
        return None
    return find_charset_problem(webhook.content_type)


@dataclass(slots=True)
class _Checker:
    """A checker of webhook templates. It checks each distinct template once."""

    #: Results by model and digest: the templates of all webhooks together may be large.
    _problems: dict[tuple[str, bool, bytes], tuple[str, ...]] = field(default_factory=dict)

    def check(
        self, webhook: Webhook, model: WatchableModel, templates: Sequence[PlacedTemplate]
    ) -> list[RefusedTemplate]:
        """Return those templates of a webhook of this model that would be refused."""
        refused = []
        for template in templates:
            problems = self._find_problems(model, template)
            if problems:
                refused.append(RefusedTemplate(webhook=webhook, place=template.place, problems=problems))
        return refused

    def _find_problems(self, model: WatchableModel, template: PlacedTemplate) -> tuple[str, ...]:
        key = (model.name, template.is_condition, sha256(template.text.encode()).digest())
        problems = self._problems.get(key)
        if problems is None:
            errors = find_problems(
                template.text,
                fields=webhook_models.template_paths(model.fields),
                types=types_by_path(model.fields),
                is_condition=template.is_condition,
            )
            problems = self._problems[key] = tuple(str(error) for error in errors)
        return problems


def _log(refused: RefusedTemplate) -> None:
    webhook = refused.webhook
    logger.warning(
        "a URL, content type or template would be refused today: change the webhook or its model",
        action="check_webhooks", webhook_id=encode(Prefix.WEBHOOK, webhook.id), webhook=webhook.name,
        model=webhook.model, place=refused.place, problems=list(refused.problems),
    )  # fmt: skip
