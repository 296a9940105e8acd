"""The models that webhooks can watch: models tracked in code, and models declared by other programs.

Tracked models are known to the code of this process, declared models to the database, so all processes see a declared
model at once. If code tracks a model whose name was declared before, the tracked model is used.
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
from ringback.models.tracking import model_fields
from ringback.models.tracking.registry import NAME_PATTERN, get_tracking, registry

#: Columns of a declared model that a WatchableModel needs. The schema may be large.
_COLUMNS = ("name", "label", "description", "template_fields", "sample")


@dataclass(frozen=True, slots=True)
class WatchableModel:
    """A model that webhooks can watch. `labels` maps languages to names for people, and always has "en"."""

    name: str
    labels: Mapping[str, str]
    description: str
    fields: tuple[FieldInfo, ...]
    sample: Mapping[str, Any] = field(compare=False)

    def label(self, locale: str = "en") -> str:
        """Return the label for a locale such as "ru" or "ru-RU", or the English label if there is none."""
        language = locale.replace("_", "-").split("-")[0]
        return self.labels.get(locale) or self.labels.get(language) or self.labels["en"]


async def find(name: str, db: BaseDBAsyncClient | None = None) -> WatchableModel | None:
    """Return the model of this name, or None. Reads the database only if no tracked model has the name."""
    return find_tracked(name) or (await find_declared([name], db)).get(name)


def find_tracked(name: str) -> WatchableModel | None:
    """Return the tracked model of this name, or None."""
    model = registry.get(name)
    return _watchable_of(model) if model else None


async def find_declared(names: Collection[str], db: BaseDBAsyncClient | None = None) -> dict[str, WatchableModel]:
    """Return the declared models of these names, except for names that code tracks. Runs at most one statement."""
    untracked = {name for name in names if registry.get(name) is None and NAME_PATTERN.fullmatch(name)}
    if not untracked:
        return {}
    rows = DeclaredModel.filter(name__in=untracked).using_db(db).only(*_COLUMNS)
    return {row.name: from_declared_row(row) for row in await rows}


async def list_models() -> list[WatchableModel]:
    """Return all models that webhooks can watch, sorted by name."""
    models = {row.name: from_declared_row(row) for row in await DeclaredModel.all().only(*_COLUMNS)}
    for name in registry.names():
        tracked = find_tracked(name)
        if tracked is not None:
            models[name] = tracked
    return [models[name] for name in sorted(models)]


async def suggest_names(name: str) -> str:
    """Return a hint such as " Did you mean lead?", or "" if `did_you_mean` finds no similar name."""
    return did_you_mean(name, {*registry.names(), *await find_declared_names()})


async def find_declared_names(db: BaseDBAsyncClient | None = None) -> list[str]:
    """Return the names of all declared models."""
    return [str(name) for name in await DeclaredModel.all().using_db(db).values_list("name", flat=True)]


def from_declared_row(row: DeclaredModel) -> WatchableModel:
    """Return a declared model as a watchable one."""
    return WatchableModel(
        name=row.name,
        labels={"en": row.label},
        description=row.description,
        fields=row.field_infos,
        sample=row.sample,
    )


def template_paths(fields: Collection[FieldInfo]) -> list[str]:
    """Return the paths of fields for the template checks. Any path below a JSON field is valid, hence its `.*`."""
    return [_template_path(info) for info in fields]


def lock_name(name: str) -> str:
    """Return the name of the lock for a model's declaration: exclusive to declare it, shared to rely on it."""
    return f"declaration of {name}"


@lru_cache(maxsize=1_000)
def _watchable_of(model: type[Model]) -> WatchableModel:
    tracking = get_tracking(model)
    return WatchableModel(
        name=tracking.name,
        labels=tracking.labels,
        description=tracking.description,
        fields=tuple(model_fields.list_field_infos(model)),
        sample=model_fields.make_sample(model),
    )


def _template_path(info: FieldInfo) -> str:
    return f"{info.path}.*" if info.type == "json" else info.path
