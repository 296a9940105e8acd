"""Models that webhooks can watch: tracked in code, and declared."""

from typing import Any

import pytest

from ringback.models import Settings
from ringback.models.database import clock
from ringback.models.declared_model import DeclaredModel
from ringback.models.services import webhook_models
from ringback.models.services.webhook_models import template_paths
from ringback.models.templates.field_info import FieldInfo
from tests.support.statements import counted

SCHEMA = '{"type": "object", "properties": {"a": {"type": "string"}}}'


async def declare(name: str, **values: Any) -> DeclaredModel:
    now = await clock.now()
    fields = [["item.a", "string", ""]]
    given = {"label": "Thing", "description": "", "json_schema": SCHEMA, "sample": {"a": "x"}, **values}
    return await DeclaredModel.create(name=name, template_fields=fields, **given, created_at=now, updated_at=now)


async def test_labels(shop: Settings) -> None:
    product = webhook_models.find_tracked("product")
    assert product is not None
    assert [product.label(locale) for locale in ("en", "de")] == ["Product", "Product"]
    assert [product.label(locale) for locale in ("ru", "ru-RU", "ru_RU")] == ["Товар"] * 3
    assert product is webhook_models.find_tracked("product")


async def test_tracked_and_declared_models_are_listed_and_found(shop: Settings) -> None:
    await declare("thing")
    assert [model.name for model in await webhook_models.list_models()] == [
        "branch",
        "customer_order",
        "lead",
        "product",
        "thing",
    ]
    with counted() as statements:
        branch, thing, nothing = [await webhook_models.find(name) for name in ("branch", "thing", "\ud800")]
    assert len(statements) == 1
    assert branch is not None and thing is not None and nothing is None
    assert (branch.description, thing.label("ru"), thing.sample) == ("", "Thing", {"a": "x"})
    assert webhook_models.template_paths(thing.fields) == ["item.a"]
    assert list(await webhook_models.find_declared(["thing", "branch", "x" * 200])) == ["thing"]


async def test_a_tracked_model_replaces_a_declared_one_of_its_name(shop: Settings) -> None:
    await declare("branch")
    assert [model.name for model in await webhook_models.list_models()].count("branch") == 1
    branch = await webhook_models.find("branch")
    assert branch is not None
    assert "item.town" in webhook_models.template_paths(branch.fields)
    assert await webhook_models.find_declared(["branch"]) == {}


@pytest.mark.parametrize(
    ("name", "hint"), [("brnch", " Did you mean branch?"), ("thin", " Did you mean thing?"), ("zzz", "")]
)
async def test_similar_names_are_suggested(shop: Settings, name: str, hint: str) -> None:
    await declare("thing")
    assert await webhook_models.suggest_names(name) == hint


def test_any_path_below_a_json_field_is_valid() -> None:
    assert template_paths([FieldInfo("item.a", "string", ""), FieldInfo("item.b", "json", "")]) == [
        "item.a",
        "item.b.*",
    ]
