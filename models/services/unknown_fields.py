"""Find active webhooks that use fields which their model, tracked in code, no longer has.

A webhook is checked when it is saved, but the code of its model may change later. Declared models are not checked here:
a declaration that lacks fields which webhooks use is refused.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256

import structlog
from tortoise.exceptions import BaseORMException

from ringback.models.ids import Prefix, encode
from ringback.models.services import webhook_models
from ringback.models.services.webhook_spec import PlacedTemplate, list_templates
from ringback.models.templates.validation import find_unknown_paths
from ringback.models.tracking.registry import registry
from ringback.models.webhook import Webhook

logger = structlog.get_logger("ringback.webhooks")

#: Webhooks read at once.
PAGE = 100
#: Lines logged. All webhooks of a model may use a field that it lost.
MAX_LOGGED = 100
_COLUMNS = ("id", "name", "model", "url", "headers", "send_json", "body_template", "condition")


@dataclass(frozen=True, slots=True)
class UnknownFields:
    """Fields that one template of a webhook uses and its model lacks, sorted. Example of a place: headers[0].value."""

    webhook: Webhook
    place: str
    fields: tuple[str, ...]


async def log_unknown_fields() -> None:
    """Log a warning for each template with unknown fields, at most MAX_LOGGED, and then how many more there are.

    A failure of the database is logged too: it must not end the program.
    """
    count = 0
    try:
        async for unknown in find_unknown_fields():
            count += 1
            if count <= MAX_LOGGED:
                _log(unknown)
    except BaseORMException as error:
        logger.warning("cannot check the webhooks for unknown fields", action="check_webhooks", reason=str(error))
    if count > MAX_LOGGED:
        logger.warning(
            "more webhooks use fields that their models do not have", action="check_webhooks", more=count - MAX_LOGGED
        )


async def find_unknown_fields() -> AsyncIterator[UnknownFields]:
    """Yield the templates of active webhooks that use unknown fields, in the order of the webhooks' ids."""
    checker = _Checker()
    models = registry.names()
    webhooks = Webhook.filter(model__in=models, is_active=True, deleted_at=None).order_by("id").limit(PAGE)
    page = await webhooks.only(*_COLUMNS)
    while page:
        for webhook in page:
            for unknown in await asyncio.to_thread(checker.check, [webhook]):  # a stop waits for the thread
                yield unknown
        page = await webhooks.filter(id__gt=page[-1].id).only(*_COLUMNS)


@dataclass(slots=True)
class _Checker:
    """Checks templates of webhooks, each distinct one once."""

    _paths: dict[str, list[str]] = field(default_factory=dict)
    #: Results by model and digest: the templates of all webhooks together may be large.
    _unknown: dict[tuple[str, bool, bytes], tuple[str, ...]] = field(default_factory=dict)

    def check(self, webhooks: Sequence[Webhook]) -> list[UnknownFields]:
        """Return the templates of webhooks that use unknown fields."""
        return [
            UnknownFields(webhook=webhook, place=template.place, fields=fields)
            for webhook in webhooks
            for template in list_templates(webhook)
            if (fields := self._unknown_fields(webhook.model, template))
        ]

    def _unknown_fields(self, model: str, template: PlacedTemplate) -> tuple[str, ...]:
        if not template.is_condition and "{" not in template.text:
            return ()
        key = (model, template.is_condition, sha256(template.text.encode()).digest())
        fields = self._unknown.get(key)
        if fields is None:
            paths = find_unknown_paths(template.text, fields=self._paths_of(model), is_condition=template.is_condition)
            fields = self._unknown[key] = tuple(sorted(paths))
        return fields

    def _paths_of(self, model: str) -> list[str]:
        if model not in self._paths:
            watchable = webhook_models.find_tracked(model)
            assert watchable is not None, "only webhooks of tracked models are read"
            self._paths[model] = webhook_models.template_paths(watchable.fields)
        return self._paths[model]


def _log(unknown: UnknownFields) -> None:
    webhook = unknown.webhook
    logger.warning(
        "a webhook uses fields that its model does not have: change the webhook or the model",
        action="check_webhooks", webhook_id=encode(Prefix.WEBHOOK, webhook.id), webhook=webhook.name,
        model=webhook.model, place=unknown.place, fields=list(unknown.fields),
    )  # fmt: skip
