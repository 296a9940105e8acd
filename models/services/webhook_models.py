"""What may be watched: models that are tracked in code, and models that were declared. One answer for both kinds.

The code of this process knows the first, the database the second, so a declared model is seen by all processes at once.
Where code tracks a model under a name that was declared before, the code wins.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from tortoise.backends.base.client import BaseDBAsyncClient
from tortoise.models import Model

from ringback.models.declared_model import DeclaredModel
from ringback.models.services.validation import did_you_mean
from ringback.models.templates.field_info import FieldInfo
from ringback.models.tracking import snapshot
from ringback.models.tracking.registry import NAME, registry, tracking_of


@dataclass(frozen=True, slots=True)
class WatchableModel:
    """A model that webhooks may watch; `labels` are its names for people by language, "en" always among them."""

    name: str
    labels: Mapping[str, str]
    description: str
    fields: tuple[FieldInfo, ...]
    sample: Mapping[str, Any] = field(compare=False)

    def label(self, locale: str = "en") -> str:
        """The label in a language such as "ru" or "ru-RU"; English where there is none."""
        language = locale.replace("_", "-").split("-")[0]
        return self.labels.get(locale) or self.labels.get(language) or self.labels["en"]


def paths_of(fields: Collection[FieldInfo]) -> list[str]:
    """Fields as checks of templates want them: what a JSON field holds is not known, so any path below it may be."""
    return [f"{i.path}.*" if i.type == "json" else i.path for i in fields]


def list_tracked(name: str) -> WatchableModel | None:
    """The model of that name that this process tracks in code; it asks no database."""
    model = registry.get(name)
    return _tracked(model) if model else None


@lru_cache(maxsize=1_000)
def _tracked(model: type[Model]) -> WatchableModel:
    told = tracking_of(model)
    return WatchableModel(
        told.name, told.labels, told.description, tuple(snapshot.field_infos(model)), snapshot.sample(model)
    )


def list_declared(row: DeclaredModel) -> WatchableModel:
    """A declared model's row as what may be watched."""
    return WatchableModel(row.name, {"en": row.label}, row.description, row.schema.fields, row.sample)


async def find(name: str, db: BaseDBAsyncClient | None = None) -> WatchableModel | None:
    """The model of that name, or None; one statement for a declared one, none for one in code."""
    return list_tracked(name) or (await find_declared([name], db)).get(name)


async def find_declared(names: Collection[str], db: BaseDBAsyncClient | None = None) -> dict[str, WatchableModel]:
    """Those of these names that were declared and are not tracked in code; at most one statement."""
    wanted = {name for name in names if registry.get(name) is None and NAME.fullmatch(name)}
    if not wanted:
        return {}
    return {row.name: list_declared(row) for row in await DeclaredModel.filter(name__in=wanted).using_db(db)}


async def all_models() -> list[WatchableModel]:
    """Every model that may be watched, by name."""
    found = {row.name: list_declared(row) for row in await DeclaredModel.all()}
    found |= {name: watchable for name in registry.names() if (watchable := list_tracked(name))}
    return [found[name] for name in sorted(found)]


def lock_name(name: str) -> str:
    """The lock of whoever declares a model, shared by those who rely on what it is."""
    return f"declaration of {name}"


async def find_declared_names(db: BaseDBAsyncClient | None = None) -> list[str]:
    """The names of the declared models."""
    return [str(name) for name in await DeclaredModel.all().using_db(db).values_list("name", flat=True)]


async def suggest_names(name: str) -> str:
    """A hint such as ": did you mean lead?"; empty when no model's name is near."""
    return did_you_mean(name, {*registry.names(), *await find_declared_names()})
