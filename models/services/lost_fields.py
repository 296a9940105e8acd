"""The check that the new schema of a declared model has all fields that webhooks use.

It parses the templates of all webhooks of the model, which may take seconds. So it runs in a thread and before the
transaction, which only finds out whether the model or its webhooks have changed since. Then the check runs again.
"""

from collections.abc import Collection
from typing import Any, NamedTuple

from tortoise.backends.base.client import BaseDBAsyncClient

from ringback.models.database.sql import as_uuid, fetch_rows
from ringback.models.declared_model import DeclaredModel
from ringback.models.errors import ProblemCode
from ringback.models.ids import Prefix, encode
from ringback.models.json_schema.compiler import run_in_schema_thread
from ringback.models.services import webhook_models
from ringback.models.services.validation import Problems
from ringback.models.services.webhook_spec import PlacedTemplate, list_templates
from ringback.models.templates.field_info import FieldInfo
from ringback.models.templates.validation import find_unknown_paths
from ringback.models.webhook import Webhook

#: Key of the queue in which templates wait for the schema thread. Those of all checks take turns.
_TEMPLATES = "templates of webhooks"
#: Maximum number of fields that the error for one webhook names.
_MAX_NAMED_PATHS = 10
_VERSIONS = "SELECT id, updated_at FROM ringback_webhook WHERE model = $1 AND deleted_at IS NULL ORDER BY id"


class _WebhookVersion(NamedTuple):
    """The id of a webhook and the time of its last change, as the driver of the database returns them."""

    id: Any
    updated_at: Any


class LostFieldsCheck:
    """The check of one new schema. A webhook that has passed is checked again only if it changes."""

    def __init__(self, name: str, fields: Collection[FieldInfo]) -> None:
        """Prepare the check of a model's new `fields`."""
        self._name = name
        self._new_paths = webhook_models.template_paths(fields)
        self._old_paths: list[str] = []
        self._passed: set[_WebhookVersion] = set()

    async def run(self, problems: Problems) -> None:
        """Add a problem for each webhook that uses fields which the new schema lacks."""
        row = await DeclaredModel.filter(name=self._name).only("template_fields").first()
        old_paths = [] if row is None else webhook_models.template_paths(row.field_infos)
        if old_paths != self._old_paths:
            self._old_paths = old_paths
            self._passed.clear()
        if not self._loses_fields():
            return
        for version in await self._read_versions(Webhook._meta.db):
            if version not in self._passed:
                await self._check_webhook(problems, version)
            if problems.is_full:
                return

    async def is_current(self, db: BaseDBAsyncClient, row: DeclaredModel) -> bool:
        """Return whether the check has passed for the model as `row` declares it, with its webhooks of now."""
        if webhook_models.template_paths(row.field_infos) != self._old_paths:
            return False
        if not self._loses_fields():
            return True
        return self._passed.issuperset(await self._read_versions(db))

    def _loses_fields(self) -> bool:
        return not set(self._old_paths) <= set(self._new_paths)

    async def _read_versions(self, db: BaseDBAsyncClient) -> list[_WebhookVersion]:
        return [_WebhookVersion._make(row) for row in await fetch_rows(db, _VERSIONS, self._name)]

    async def _check_webhook(self, problems: Problems, version: _WebhookVersion) -> None:
        webhook = await Webhook.get_or_none(id=as_uuid(version.id), deleted_at=None)
        lost: set[str] = set()
        if webhook is not None:
            for template in list_templates(webhook):
                lost |= await run_in_schema_thread(
                    _TEMPLATES, _find_lost_paths, template, self._old_paths, self._new_paths
                )
        if webhook is not None and lost:
            problems.add("json_schema", _lost_paths_message(webhook, sorted(lost)), ProblemCode.CONFLICT)
        else:
            self._passed.add(version)


def _find_lost_paths(template: PlacedTemplate, old_paths: list[str], new_paths: list[str]) -> set[str]:
    unknown = find_unknown_paths(template.text, fields=new_paths, is_condition=template.is_condition)
    if not unknown:
        return set()
    return unknown - find_unknown_paths(template.text, fields=old_paths, is_condition=template.is_condition)


def _lost_paths_message(webhook: Webhook, paths: list[str]) -> str:
    webhook_id = encode(Prefix.WEBHOOK, webhook.id)
    named_webhook = f'The webhook "{webhook.name}"' if webhook.name else "The webhook"
    named_paths = ", ".join(paths[:_MAX_NAMED_PATHS])
    if len(paths) > _MAX_NAMED_PATHS:
        named_paths += f" and {len(paths) - _MAX_NAMED_PATHS} more"
    return (
        f"{named_webhook} ({webhook_id}) uses {named_paths}, which this schema does not have. "
        "Change the webhook first, or declare the model with force: true."
    )
