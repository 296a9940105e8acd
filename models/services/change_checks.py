"""A change as a program publishes it, and the checks of the changes of one call."""

import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ringback.models.database.sql import is_storable
from ringback.models.declared_model import MAX_KEY_CHARS, DeclaredModel
from ringback.models.enums import Action
from ringback.models.errors import ProblemCode
from ringback.models.json_schema.findings import Finding, quote_path
from ringback.models.json_schema.schema import MAX_ITEM_BYTES
from ringback.models.services.declared_models import add_findings
from ringback.models.services.item_checks import CheckedItem, ItemChecks
from ringback.models.services.validation import Problems, api_name, did_you_mean, is_blank, name_character
from ringback.models.tracking.registry import registry

MAX_OBJECT_ID_CHARS = 255
MAX_CHANGED_FIELDS = 1_000
#: Characters of an unknown field's name that a message quotes.
_MAX_QUOTED_CHARS = 100
#: Maximum number of searches for a similar name in one call. Each may take as long as `did_you_mean` says.
_MAX_SUGGESTIONS = 3


@dataclass(frozen=True, slots=True)
class Publication:
    """A change as a program publishes it. `item` is any JSON value."""

    model: str
    action: Action
    object_id: str
    item: Any
    changed_fields: Sequence[str] | None = None
    idempotency_key: str | None = None


class ChangeChecker:
    """The checks of one call's changes.

    `models` are the declared models that the changes name, `suggestions` names to suggest in place of an unknown one.
    """

    def __init__(
        self, problems: Problems, models: Mapping[str, DeclaredModel], suggestions: Sequence[str], checks: ItemChecks
    ) -> None:
        self._problems = problems
        self.models = models
        self._suggestions = suggestions
        self._checks = checks
        self._suggestions_left = _MAX_SUGGESTIONS

    def check(self, index: int, change: Publication, item_bytes: int) -> None:
        """Add the problems of the change at a position, whose item takes `item_bytes` as JSON.

        Those of an item that must be checked in the schema thread are added once that is done.
        """
        field = f"changes[{index}]"
        if self._problems.is_full:
            return
        self._check_foreign_id(f"{field}.object_id", change.object_id, MAX_OBJECT_ID_CHARS)
        if change.idempotency_key is not None:
            self._check_foreign_id(f"{field}.idempotency_key", change.idempotency_key, MAX_KEY_CHARS)
        if change.changed_fields and change.action is not Action.UPDATED:
            path = f"{field}.changed_fields"
            self._problems.add(
                path, f"{api_name(path)} is set for a {change.action} object. Leave it out, or send action UPDATED."
            )
        model = self._check_model(f"{field}.model", change.model)
        path = f"{field}.item"
        if item_bytes > MAX_ITEM_BYTES:
            self._problems.add_too_large(path, item_bytes, "bytes", MAX_ITEM_BYTES)
        elif not isinstance(change.item, dict):
            self._problems.add(path, f'{path} is not a JSON object. Send an object, such as {{"price": 350.5}}.')
        elif model is not None:
            checked = self._checks.find(index, model.json_schema, change.item, item_bytes)
            if checked is None:
                return
            if checked.fault is not None:
                self._add_schema_fault(f"{field}.model", change.model, checked.fault)
                return
            add_findings(self._problems, path, checked.findings)
            self._check_changed_fields(f"{field}.changed_fields", change, model, checked)

    def _check_foreign_id(self, field: str, text: str, max_chars: int) -> None:
        """Check an id that another program made. It is stored unchanged."""
        if not text:
            self._problems.add(field, f"{api_name(field)} is empty. Enter a value.")
        elif len(text) > max_chars:
            self._problems.add_too_large(field, len(text), "characters", max_chars)
        elif fault := find_id_fault(text):
            self._problems.add(field, f"{api_name(field)} {fault}.")

    def _check_model(self, field: str, name: str) -> DeclaredModel | None:
        if registry.get(name) is not None:
            message = f"The model {name} is tracked in code, which records its changes. They cannot be published."
            self._problems.add(field, message, ProblemCode.CONFLICT)
            return None
        model = self.models.get(name)
        if model is None:
            hint = self._suggest(name, self._suggestions)
            self._problems.add(field, f"There is no declared model {name!r:.100}.{hint}", ProblemCode.NOT_FOUND)
        return model

    def _add_schema_fault(self, field: str, name: str, fault: Finding) -> None:
        """Add the problem that a stored schema is refused today, which was declared before the rule existed."""
        message = (
            f"The schema of the model {name} cannot be used any more: "
            f"jsonSchema{quote_path(fault.path)} {fault.message}. Declare the model again."
        )
        self._problems.add(field, message, ProblemCode.TOO_LARGE)

    def _check_changed_fields(
        self, field: str, change: Publication, model: DeclaredModel, checked: CheckedItem
    ) -> None:
        names = change.changed_fields or ()
        if len(names) > MAX_CHANGED_FIELDS:
            self._problems.add_too_large(field, len(names), "entries", MAX_CHANGED_FIELDS)
        is_open = bool(names) and model.is_open
        for index, name in enumerate(names[:MAX_CHANGED_FIELDS]):
            if self._problems.is_full:
                return
            if not is_storable(name):
                path = f"{field}[{index}]"
                self._problems.add(path, f"{api_name(path)} contains a NUL or lone surrogate character. Remove it.")
                continue
            if is_open or name in checked.names or name in change.item:
                continue
            hint = self._suggest(name, checked.names)
            message = f"The model {change.model} has no field {name!r:.{_MAX_QUOTED_CHARS}}.{hint}"
            self._problems.add(f"{field}[{index}]", message)

    def _suggest(self, name: str, candidates: Collection[str]) -> str:
        """Return a hint with the most similar name, or "" if there is none or finding it could take long."""
        if not self._suggestions_left:
            return ""
        self._suggestions_left -= 1
        return did_you_mean(name, candidates)


def find_id_fault(text: str) -> str | None:
    """Return what is wrong with the characters of an id, and what to do, or None.

    Spaces of any kind may stand inside an id. Control and zero-width characters may not, since nobody sees them.
    """
    if is_blank(text):
        return "has no visible character. Enter a value"
    if text != text.strip():
        return "starts or ends with white space. Remove it"
    for position, character in enumerate(text, 1):
        if not character.isprintable() and unicodedata.category(character) != "Zs":
            return f"contains {name_character(character)} at character {position}. Remove it"
    return None
