"""Tests of snapshots, field paths and samples: they agree, and only a difference of stored values is a change."""

import datetime as dt
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from tortoise.transactions import in_transaction

from ringback.models import Computed, Settings, TrackingError
from ringback.models.customer_order import CustomerOrder
from ringback.models.enums import OrderStatus
from ringback.models.event import Change
from ringback.models.lead import Lead
from ringback.models.services import customer_orders
from ringback.models.tracking import model_fields, snapshot
from ringback.models.tracking.registry import registry
from ringback.models.tracking.snapshot import Stored
from tests.support.recorded import changes, counts, forget, item, watch
from tests.support.shop import CODE, Bolt, Branch, Grade, Manual, Part, Product, State


async def test_every_type_as_json(watched: Settings) -> None:
    product = await Product.create(name="lamp", data={"b": [1, None, {"é": True}], "a": 1.5})
    foot = await Part.create(product=product, name="foot", note="secret")
    bolt = await Bolt.create(part=foot, size=4)
    await Part.create(product=product, name="shade")
    await Manual.create(product=product, pages=12)
    await forget()
    await product.delete()
    shown = await item()
    times = [shown.pop("changed_at"), *(part.pop("seen_at") for part in shown["parts"])]
    assert all(dt.datetime.strptime(time, "%Y-%m-%dT%H:%M:%S.%fZ") for time in times)
    assert shown == {
        "id": "1",
        "name": "lamp",
        "price": "1.50",
        "state": "new",
        "grade": 1,
        "added_at": "2026-01-31T10:00:00.001500Z",
        "released": "2026-02-01",
        "warranty": 60.5,
        "weight": 0.5,
        "stocked": True,
        "code": str(CODE),
        "data": {"b": [1, None, {"é": True}], "a": 1.5},
        "photo": "AP8=",
        "maker_id": None,
        "parts": [
            {"name": "shade", "bolts": [], "loud": "SHADE"},
            {"name": "foot", "bolts": [{"id": str(bolt.id), "size": 4}], "loud": "FOOT"},
        ],
        "manual": {"pages": 12},
        "part_count": 2,
    }
    assert list(shown)[:3] == ["id", "name", "price"]


async def test_nulls_and_other_values(watched: Settings) -> None:
    await Product.create(
        name="lamp", price=Decimal("1E+3"), state=State.OLD, grade=Grade.BAD, data=None, photo=b"", stocked=False
    )
    shown = await item()
    assert {name: shown[name] for name in ("price", "state", "grade", "data", "photo", "stocked", "manual")} == {
        "price": "1000.00",
        "state": "old",
        "grade": 2,
        "data": None,
        "photo": "",
        "stocked": False,
        "manual": None,
    }


async def test_excluded_columns_are_never_shown_but_their_changes_count(watched: Settings) -> None:
    product = await Product.create(name="lamp")
    foot = await Part.create(product=product, name="foot")
    await forget()
    product.cost = 8
    await product.save()
    foot.note = "psst"
    await foot.save()
    assert await changes() == [("product", "updated", "1", []), ("product", "updated", "1", ["parts"])]
    text = str(
        [await item(0), await item(1), model_fields.make_sample(Product), model_fields.list_field_infos(Product)]
    )
    assert "cost" not in text
    assert "psst" not in text
    assert "note" not in text


@pytest.mark.parametrize(
    ("before", "after"),
    [({"a": 1}, {"a": True}), ({"a": 1}, {"a": 1.0}), ({"a": 0}, {"a": False}), ([1, 2], [2, 1]), ({}, []), (None, {})],
)
async def test_json_values_of_different_types_differ(watched: Settings, before: Any, after: Any) -> None:
    product = await Product.create(name="lamp", data=before)
    await forget()
    product.data = after
    await product.save()
    assert await changes() == [("product", "updated", "1", ["data"])]


async def test_the_order_of_json_keys_does_not_count(watched: Settings) -> None:
    product = await Product.create(name="lamp", data={"a": 1, "b": 2})
    await forget()
    product.data = {"b": 2, "a": 1}
    await product.save()
    assert await counts() == (0, 0, 0)


async def test_the_scale_of_a_decimal_does_not_count(watched: Settings) -> None:
    product = await Product.create(name="lamp", price=Decimal(2))
    await forget()
    product.price = Decimal("2.00")
    await product.save()
    assert await counts() == (0, 0, 0)


async def test_children_are_in_the_order_of_their_model_then_their_key(watched: Settings) -> None:
    product = await Product.create(name="lamp")
    for note in ("1", "2", "3"):
        await Part.create(product=product, name="same", note=note)
    await Part.create(product=product, name="zip")
    async with in_transaction() as db:
        stored = (await snapshot.read(db, Product, [product.id]))[product.id]
    assert [p["name"] for p in stored.item["parts"]] == ["zip", "same", "same", "same"]
    assert [hidden["note"] for _, hidden in stored.compared["parts"]] == ["", "1", "2", "3"]
    assert stored.hidden == {"cost": 7}


async def test_replacing_a_child_by_an_equal_one_is_not_a_change(watched: Settings) -> None:
    product = await Product.create(name="lamp")
    foot = await Part.create(product=product, name="foot")
    await forget()
    async with in_transaction():
        await foot.delete()
        await Part.create(product=product, name="foot")
    assert await counts() == (0, 0, 0)


def test_differences_in_the_order_of_the_snapshot() -> None:
    before = Stored(item={}, compared={"a": 1, "b": 1, "c": 1}, hidden={"h": 1})
    assert snapshot.find_differences(before, replace(before, compared={"c": 2, "b": 1, "a": 2})) == ["c", "a"]
    assert snapshot.find_differences(before, replace(before, hidden={"h": 2})) == []
    assert snapshot.find_differences(before, replace(before)) is None


async def test_field_infos(shop: Settings) -> None:
    assert [(i.path, i.type) for i in model_fields.list_field_infos(Product)] == [
        ("item.id", "id"),
        ("item.name", "string"),
        ("item.price", "decimal"),
        ("item.state", "string"),
        ("item.grade", "integer"),
        ("item.added_at", "datetime"),
        ("item.released", "date"),
        ("item.warranty", "seconds"),
        ("item.weight", "float"),
        ("item.stocked", "boolean"),
        ("item.code", "id"),
        ("item.data", "json"),
        ("item.photo", "base64"),
        ("item.changed_at", "datetime"),
        ("item.maker_id", "integer"),
        ("item.parts", "list"),
        ("item.parts[].name", "string"),
        ("item.parts[].seen_at", "datetime"),
        ("item.parts[].bolts", "list"),
        ("item.parts[].bolts[].id", "id"),
        ("item.parts[].bolts[].size", "integer"),
        ("item.parts[].loud", "string"),
        ("item.manual", "object"),
        ("item.manual.pages", "integer"),
        ("item.part_count", "integer"),
    ]
    about = {i.path: i.description for i in model_fields.list_field_infos(Product)}
    assert (about["item.name"], about["item.parts"]) == ("Its name.", "A part of a product.")


async def test_a_sample_made_from_the_field_types(shop: Settings) -> None:
    sample = model_fields.make_sample(Product)
    assert (sample["id"], sample["state"], sample["grade"], sample["price"]) == ("1", "new", 1, "1.00")
    assert sample["parts"] == [
        {
            "name": "Name",
            "seen_at": "2026-01-31T12:00:00.000000Z",
            "bolts": [{"id": "01890a5d-ac96-774b-bcce-b302099a8057", "size": 1}],
            "loud": "NAME",
        }
    ]
    assert (sample["manual"], sample["part_count"]) == ({"pages": 1}, 1)


async def test_snapshots_samples_and_paths_agree(watched: Settings) -> None:
    await watch("lead")
    await watch("customer_order")
    product = await Product.create(name="lamp")
    await Bolt.create(part=await Part.create(product=product, name="foot"), size=1)
    await Manual.create(product=product, pages=1)
    await Lead.create(name="Ann", phone="1")
    ann = customer_orders.Customer("Ann")
    await customer_orders.create_order(
        "1", ann, [customer_orders.Item("b", "a", "n", 1, Decimal(1))], status=OrderStatus.NEW
    )
    snapshots = {change.model: change.item for change in await Change.all().order_by("id")}
    assert snapshots.keys() == {"product", "lead", "customer_order"}
    for name, stored in snapshots.items():
        model = registry.get(name)
        assert model is not None
        documented = {info.path for info in model_fields.list_field_infos(model)}
        assert list_paths(stored) == documented == list_paths(model_fields.make_sample(model)), name


def list_paths(value: Any, prefix: str = "item") -> set[str]:
    """Return all paths of a snapshot, as list_field_infos writes them. The contents of JSON columns have none."""
    paths: set[str] = set()
    for name, inner in value.items():
        path = f"{prefix}.{name}"
        paths.add(path)
        if name == "data":
            continue
        if isinstance(inner, dict):
            paths |= list_paths(inner, path)
        elif isinstance(inner, list):
            for part in inner:
                paths |= list_paths(part, f"{path}[]")
    return paths


async def test_a_computed_value_that_fails_rolls_the_write_back(watched: Settings, monkeypatch: Any) -> None:
    def fail(item: Any) -> Any:
        raise KeyError("size")

    monkeypatch.setitem(Product.tracking.computed, "part_count", Computed(fail, "integer", ""))
    with pytest.raises(TrackingError, match=r"Product: the computed value part_count failed: KeyError\('size'\)"):
        await Product.create(name="lamp")
    assert (await counts(), await Product.all().count()) == ((0, 0, 0), 0)


async def test_ids_with_a_prefix(watched: Settings) -> None:
    branch = await Branch.create(town="Riga")
    assert (await item())["id"].startswith("brn_")
    assert (await changes())[0][2] == (await item())["id"] == Branch.tracking.encode_id(branch.id)
    assert model_fields.make_sample(Branch)["id"].startswith("brn_")


def test_a_declared_sample_is_used() -> None:
    assert model_fields.make_sample(CustomerOrder)["total"] == "701.00"
