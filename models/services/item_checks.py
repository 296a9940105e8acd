"""Checks of published items against the schemas of their models.

A short check against a compiled schema runs at once. All others run in the schema thread, outside of transactions, so
that neither the event loop nor the database waits for them: `ItemChecks.find` returns None for those, and the caller
asks again after `ItemChecks.run`.
"""

from dataclasses import dataclass
from typing import Any

from ringback.models.json_schema.compiler import compile_stored, find_compiled, run_in_schema_thread
from ringback.models.json_schema.findings import Finding
from ringback.models.json_schema.schema import CheckBudget
from ringback.models.json_schema.subschemas import SchemaFault

#: Visits that the checks of one call may take at once, 0.1 s at most. Estimates are high: most calls take a tenth.
_MAX_IMMEDIATE_VISITS = 2_000_000


@dataclass(frozen=True, slots=True)
class CheckedItem:
    """The result of a check against the schema with the text `json_schema`.

    `names` are the schema's top-level fields. `fault` is the finding of a limit that the schema itself exceeds.
    """

    json_schema: str
    names: frozenset[str] = frozenset()
    findings: tuple[Finding, ...] = ()
    fault: Finding | None = None


@dataclass(frozen=True, slots=True)
class _PendingItem:
    json_schema: str
    item: Any
    size: int


class ItemChecks:
    """The checks of one call's items, by the positions of the items."""

    def __init__(self) -> None:
        self._checked: dict[int, CheckedItem] = {}
        self._pending: dict[int, _PendingItem] = {}
        self._budget = CheckBudget()
        self._immediate_visits_left = float(_MAX_IMMEDIATE_VISITS)

    @property
    def has_pending(self) -> bool:
        """Whether items wait for `run`."""
        return bool(self._pending)

    def find(self, position: int, json_schema: str, item: Any, size: int) -> CheckedItem | None:
        """Return the result for an item of `size` bytes, or None if `run` must check it first."""
        checked = self._checked.get(position)
        if checked is None or checked.json_schema != json_schema:
            checked = self._check_at_once(json_schema, item, size)
        if checked is None:
            self._pending[position] = _PendingItem(json_schema, item, size)
        else:
            self._checked[position] = checked
        return checked

    async def run(self) -> None:
        """Check all items that wait, in the schema thread: those with the same schema together."""
        pending, self._pending = self._pending, {}
        items_by_schema: dict[str, dict[int, _PendingItem]] = {}
        for position, waiting in pending.items():
            items_by_schema.setdefault(waiting.json_schema, {})[position] = waiting
        for json_schema, items in items_by_schema.items():
            self._checked |= await run_in_schema_thread(json_schema, _check_against, json_schema, items, self._budget)

    def _check_at_once(self, json_schema: str, item: Any, size: int) -> CheckedItem | None:
        """Return the result of a short check that finds nothing, or None."""
        schema = find_compiled(json_schema)
        if schema is None:
            return None
        visits = schema.estimate_visits(item, size)
        if visits > self._immediate_visits_left or not schema.accepts_quickly(item, visits):
            return None
        self._immediate_visits_left -= visits
        return CheckedItem(json_schema, schema.names)


def _check_against(json_schema: str, items: dict[int, _PendingItem], budget: CheckBudget) -> dict[int, CheckedItem]:
    try:
        schema = compile_stored(json_schema)
    except SchemaFault as fault:
        return dict.fromkeys(items, CheckedItem(json_schema, fault=fault.findings[0]))
    checked: dict[int, CheckedItem] = {}
    for position, waiting in items.items():
        findings = schema.check(waiting.item, waiting.size, budget)
        checked[position] = CheckedItem(json_schema, schema.names, tuple(findings))
    return checked
