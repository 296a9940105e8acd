"""Create, update and delete webhooks."""

import datetime as dt
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tortoise.backends.base.client import BaseDBAsyncClient
from tortoise.transactions import in_transaction

from ringback.models.database import advisory_locks, clock
from ringback.models.database.sql import lock_row
from ringback.models.errors import InputRejected, Problem, ProblemCode
from ringback.models.ids import Prefix
from ringback.models.security.address_policy import AddressPolicy
from ringback.models.security.inbox_addresses import InboxAddresses
from ringback.models.security.secret_box import SecretBox
from ringback.models.security.signing import new_signing_secret
from ringback.models.services import events, webhook_models
from ringback.models.services.validation import Problems, check_unchanged, parse_id, require_webhook
from ringback.models.services.webhook_models import WatchableModel
from ringback.models.services.webhook_rules import MODEL_DEPENDENT_FIELDS, WebhookRules, warn_of_body
from ringback.models.services.webhook_spec import CLEARABLE, FIELD_NAMES, WebhookSpec, read_spec, write_spec
from ringback.models.webhook import Webhook


class Webhooks:
    """The webhooks of a database, under one address policy."""

    def __init__(self, policy: AddressPolicy, inboxes: InboxAddresses, secrets: SecretBox) -> None:
        self._rules = WebhookRules(policy, inboxes)
        #: Checks one webhook at a time, apart from `_rules`, so that readers do not delay those who save.
        self._stored_rules = WebhookRules(policy, inboxes)
        self._secrets = secrets

    async def create(self, spec: WebhookSpec) -> tuple[Webhook, str]:
        """Create a webhook. Return it with its signing secret, which cannot be read again. Raises InputRejected."""
        checked = await self._rules.check(spec, FIELD_NAMES)
        secret = new_signing_secret()
        async with in_transaction() as db:
            await _require_unchanged_model(db, spec.model, checked.model)
            now = await clock.now(db)
            webhook = Webhook(signing_secret=self._secrets.seal(secret), created_at=now, updated_at=now)
            write_spec(webhook, checked.spec)
            await webhook.save(using_db=db, force_create=True)
        return webhook, secret

    async def update(
        self, webhook_id: str, changes: Mapping[str, Any], expected_updated_at: dt.datetime | None = None
    ) -> Webhook:
        """Change the given fields of a webhook. None clears a field that can be cleared. Raises InputRejected.

        Deactivating a webhook cancels its waiting events, except for test events.
        """
        problems = Problems()
        problems.check_nulls(changes, clearable=CLEARABLE)
        problems.raise_if_any()
        key = parse_id(Prefix.WEBHOOK, webhook_id)
        unlocked = require_webhook(await Webhook.get_or_none(id=key), webhook_id)
        checked = await self._rules.check(replace(read_spec(unlocked), **changes), changes.keys())
        checked_changes = {name: getattr(checked.spec, name) for name in changes}
        async with in_transaction() as db:
            webhook = require_webhook(await lock_row(db, Webhook, id=key), webhook_id)
            check_unchanged(webhook.updated_at, expected_updated_at)
            if changes.keys() & MODEL_DEPENDENT_FIELDS:
                await _require_unchanged_model(db, checked.spec.model, checked.model)
            old_spec = read_spec(webhook)
            # Other fields may have changed since the webhook was read without a lock.
            new_spec = replace(old_spec, **checked_changes)
            if new_spec == old_spec:
                return webhook
            write_spec(webhook, new_spec)
            webhook.updated_at = await clock.now(db)
            await webhook.save(using_db=db)
            if old_spec.is_active and not new_spec.is_active:
                reason = "Cancelled: the webhook was deactivated"
                await events.cancel_waiting(db, webhook, reason, webhook.updated_at, tests=False)
        return webhook

    async def find_warnings(self, webhook: Webhook) -> list[str]:
        """Return what is wrong with a stored webhook: the rules that would refuse it today, and its body.

        Rules become stricter and models lose fields, but a stored webhook goes on as it is.
        """
        spec = read_spec(webhook)
        warnings = warn_of_body(spec)
        try:
            await self._stored_rules.check(spec, FIELD_NAMES)
        except InputRejected as error:
            warnings += [problem.message for problem in error.problems]
        return warnings

    async def delete(self, webhook_id: str) -> None:
        """Mark a webhook as deleted and cancel its waiting events. Its history stays. Raises InputRejected."""
        key = parse_id(Prefix.WEBHOOK, webhook_id)
        async with in_transaction() as db:
            webhook = require_webhook(await lock_row(db, Webhook, id=key), webhook_id)
            now = await clock.now(db)
            webhook.deleted_at = webhook.updated_at = now
            webhook.is_active = False
            await webhook.save(using_db=db)
            await events.cancel_waiting(db, webhook, "Cancelled: the webhook was deleted", now, tests=True)


async def _require_unchanged_model(db: BaseDBAsyncClient, name: str, checked: WatchableModel | None) -> None:
    """Raise InputRejected if the model was redeclared after the templates were checked against it."""
    if webhook_models.find_tracked(name) is None:
        await advisory_locks.acquire(db, [webhook_models.lock_name(name)], shared=True)
    if await webhook_models.find(name, db) != checked:
        message = f"The model {name} was redeclared while the webhook was being saved. Try again."
        raise InputRejected(Problem(message, "model", ProblemCode.CONFLICT))
