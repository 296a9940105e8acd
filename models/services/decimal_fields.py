"""The decimal fields of the models that webhooks watch, which are numbers in templates."""

import datetime as dt
from collections.abc import Collection, Mapping
from typing import NamedTuple

from cachetools import LRUCache

from ringback.models.declared_model import DeclaredModel
from ringback.models.templates.decimal_fields import DecimalFields
from ringback.models.templates.field_info import types_by_path
from ringback.models.tracking import model_fields
from ringback.models.tracking.registry import registry

#: Fields of the declared models that are kept, those used last.
_MAX_CACHED_FIELDS = 100_000


class _Cached(NamedTuple):
    """The decimal fields of a declared model, as declared at `version`. `weight` is the number of all its fields."""

    version: dt.datetime
    fields: DecimalFields
    weight: int


class DecimalFieldsCache:
    """A cache of the decimal fields of models. A declared model's fields are read again after each declaration."""

    def __init__(self) -> None:
        self._declared: LRUCache[str, _Cached] = LRUCache(_MAX_CACHED_FIELDS, lambda cached: cached.weight)

    async def find(self, names: Collection[str]) -> Mapping[str, DecimalFields]:
        """Return the decimal fields of these models. Takes no statement for models that are tracked in code."""
        found: dict[str, DecimalFields] = {}
        declared: list[str] = []
        for name in names:
            model = registry.get(name)
            if model is None:
                declared.append(name)
            else:
                found[name] = model_fields.decimal_fields(model)
        if declared:
            found |= await self._find_declared(declared)
        return found

    def of_row(self, row: DeclaredModel) -> DecimalFields:
        """Return the decimal fields of a declared model that has been read."""
        cached = self._find_cached(row.name, row.updated_at)
        if cached is not None:
            return cached
        types = types_by_path(row.field_infos)
        fields = DecimalFields(types)
        if row.template_fields is not None:  # derived soon, without a new declaration
            self._declared[row.name] = _Cached(row.updated_at, fields, weight=len(types) + 1)
        return fields

    async def _find_declared(self, names: Collection[str]) -> dict[str, DecimalFields]:
        found: dict[str, DecimalFields] = {}
        versions = await DeclaredModel.filter(name__in=names).values_list("name", "updated_at")
        for name, version in versions:
            cached = self._find_cached(name, version)
            if cached is not None:
                found[name] = cached
        stale = [name for name, _ in versions if name not in found]
        if stale:
            rows = DeclaredModel.filter(name__in=stale).only("name", "updated_at", "template_fields")
            found |= {row.name: self.of_row(row) for row in await rows}
        return found

    def _find_cached(self, name: str, version: dt.datetime) -> DecimalFields | None:
        cached = self._declared.get(name)
        if cached is None or cached.version != version:
            return None
        return cached.fields
