"""Find active webhooks whose URLs or templates would be refused today.

A webhook is checked when it is saved, but rules may have become stricter, and a model tracked in code may have lost
fields. The webhook goes on as it is; attempts at an address or a port that is refused end as BLOCKED. Templates for
declared models are not checked here: a declaration that lacks fields which webhooks use is refused.
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
from ringback.models.services.webhook_spec import PlacedTemplate, list_templates
from ringback.models.templates.field_info import FieldInfo, types_by_path
from ringback.models.templates.validation import find_problems
from ringback.models.tracking.registry import registry
from ringback.models.webhook import Webhook

logger = structlog.get_logger("ringback.webhooks")

#: Webhooks read at once.
PAGE = 100
#: Seconds between two pages. The check of a page takes 4 ms, and deliveries that are due at the start come first.
PAUSE_SECONDS = 1.0
#: Lines logged. All webhooks of a model may use a field that it lost.
MAX_LOGGED = 100
_COLUMNS = ("id", "name", "model", "url", "headers", "send_json", "body_template", "condition")


@dataclass(frozen=True, slots=True)
class RefusedTemplate:
    """A URL or template of a webhook that would be refused, and why. Example of a place: headers[0].value."""

    webhook: Webhook
    place: str
    problems: tuple[str, ...]


async def log_refused_templates(url_check: UrlCheck) -> None:
    """Log a warning for each URL or template that would be refused, up to MAX_LOGGED, and how many more there are.

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
            "more URLs and templates of webhooks would be refused today",
            action="check_webhooks",
            more=count - MAX_LOGGED,
        )


async def find_refused_templates(url_check: UrlCheck) -> AsyncIterator[RefusedTemplate]:
    """Yield what would be refused of active webhooks, in the order of the webhooks' ids."""
    checker = _Checker()
    models = registry.names()
    webhooks = Webhook.filter(is_active=True, deleted_at=None).order_by("id").limit(PAGE)
    page = await webhooks.only(*_COLUMNS)
    while page:
        for webhook in page:
            problems = await url_check.find_problems(webhook.url)
            if problems:
                yield RefusedTemplate(webhook=webhook, place="url", problems=tuple(problems))
            if webhook.model in models:
                for refused in await asyncio.to_thread(checker.check, [webhook]):  # a stop waits for the thread
                    yield refused
        if len(page) < PAGE:
            return
        await asyncio.sleep(PAUSE_SECONDS)
        page = await webhooks.filter(id__gt=page[-1].id).only(*_COLUMNS)


@dataclass(slots=True)
class _Checker:
    """A checker of webhook templates. It checks each distinct template once."""

    _fields: dict[str, tuple[FieldInfo, ...]] = field(default_factory=dict)
    #: Results by model and digest: the templates of all webhooks together may be large.
    _problems: dict[tuple[str, bool, bytes], tuple[str, ...]] = field(default_factory=dict)

    def check(self, webhooks: Sequence[Webhook]) -> list[RefusedTemplate]:
        """Return the templates of webhooks that would be refused."""
        return [
            RefusedTemplate(webhook=webhook, place=template.place, problems=problems)
            for webhook in webhooks
            for template in list_templates(webhook)
            if (problems := self._find_problems(webhook.model, template))
        ]

    def _find_problems(self, model: str, template: PlacedTemplate) -> tuple[str, ...]:
        if not template.is_condition and "{" not in template.text:
            return ()
        key = (model, template.is_condition, sha256(template.text.encode()).digest())
        problems = self._problems.get(key)
        if problems is None:
            fields = self._fields_of(model)
            errors = find_problems(
                template.text,
                fields=webhook_models.template_paths(fields),
                types=types_by_path(fields),
                is_condition=template.is_condition,
            )
            problems = self._problems[key] = tuple(str(error) for error in errors)
        return problems

    def _fields_of(self, model: str) -> tuple[FieldInfo, ...]:
        if model not in self._fields:
            watchable = webhook_models.find_tracked(model)
            assert watchable is not None, "only webhooks of tracked models are read"
            self._fields[model] = watchable.fields
        return self._fields[model]


def _log(refused: RefusedTemplate) -> None:
    webhook = refused.webhook
    logger.warning(
        "a URL or template of a webhook would be refused today: change the webhook or its model",
        action="check_webhooks", webhook_id=encode(Prefix.WEBHOOK, webhook.id), webhook=webhook.name,
        model=webhook.model, place=refused.place, problems=list(refused.problems),
    )  # fmt: skip
