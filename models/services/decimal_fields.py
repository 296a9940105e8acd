"""The decimal fields of the models that webhooks watch, which are numbers in templates."""

import asyncio
import datetime as dt
from collections.abc import Collection, Mapping

from cachetools import LRUCache

from ringback.models.declared_model import DeclaredModel
from ringback.models.json_schema.schema import load_schema
from ringback.models.templates.decimal_fields import DecimalFields
from ringback.models.tracking import model_fields
from ringback.models.tracking.registry import registry

#: Declared models whose fields are kept, those used last.
_MAX_CACHED = 1_000


class DecimalFieldsCache:
    """Finds the decimal fields of models. Those of a declared model are read again only after a new declaration."""

    def __init__(self) -> None:
        self._declared: LRUCache[str, tuple[dt.datetime, DecimalFields]] = LRUCache(_MAX_CACHED)

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

    async def _find_declared(self, names: Collection[str]) -> dict[str, DecimalFields]:
        versions = dict(await DeclaredModel.filter(name__in=names).values_list("name", "updated_at"))
        stale = [name for name, version in versions.items() if self._declared.get(name, (None,))[0] != version]
        if stale:
            for row in await DeclaredModel.filter(name__in=stale):
                schema = await asyncio.to_thread(load_schema, row.json_schema)  # a large one takes long to compile
                self._declared[row.name] = row.updated_at, schema.decimals
        return {name: self._declared[name][1] for name in versions if name in self._declared}
