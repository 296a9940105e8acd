"""Tests of writes that change other objects: children and their roots, and cascades of the database."""

import pytest
from tortoise.exceptions import IntegrityError

from ringback.models import Settings
from tests.support.recorded import changes, counts, forget, item
from tests.support.shop import Bolt, Branch, Diary, Maker, Manual, Part, Product


async def test_a_child_is_created_changed_and_deleted(watched: Settings) -> None:
    product = await Product.create(name="lamp")
    await forget()
    part = await product.parts.create(name="foot")
    part.name = "leg"
    await part.save()
    await part.save()
    await part.delete()
    assert await changes() == [("product", "updated", "1", ["parts"])] * 3


async def test_moving_a_child_updates_both_roots(watched: Settings) -> None:
    one, two = await Product.create(name="one"), await Product.create(name="two")
    part = await Part.create(product=one, name="foot")
    await forget()
    part.product = two
    await part.save()
    assert sorted(await changes()) == [("product", "updated", "1", ["parts"]), ("product", "updated", "2", ["parts"])]
    assert sorted((i["id"], len(i["parts"])) for i in (await item(0), await item(1))) == [("1", 0), ("2", 1)]


async def test_grandchildren(watched: Settings) -> None:
    one, two = await Product.create(name="one"), await Product.create(name="two")
    foot, leg = await Part.create(product=one, name="foot"), await Part.create(product=two, name="leg")
    await forget()
    bolt = await Bolt.create(part=foot, size=1)
    bolt.size = 2
    await bolt.save()
    bolt.part = leg
    await bolt.save()
    await bolt.delete()
    assert [(c[2], c[3]) for c in (await changes())[:2]] == [("1", ["parts"])] * 2
    assert sorted(c[2] for c in (await changes())[2:4]) == ["1", "2"]
    assert [(c[2], c[3]) for c in (await changes())[4:]] == [("2", ["parts"])]


async def test_a_moved_child_takes_its_own_children_along(watched: Settings) -> None:
    one, two = await Product.create(name="one"), await Product.create(name="two")
    foot = await Part.create(product=one, name="foot")
    await Bolt.create(part=foot, size=1)
    await forget()
    foot.product_id = two.id
    await foot.save()
    assert {i["id"]: i["parts"] and i["parts"][0]["bolts"][0]["size"] for i in (await item(0), await item(1))} == {
        "1": [],
        "2": 1,
    }


async def test_a_one_to_one_child(watched: Settings) -> None:
    product = await Product.create(name="lamp")
    await forget()
    manual = await Manual.create(product=product, pages=3)
    manual.pages = 4
    await manual.save()
    await manual.delete()
    assert await changes() == [("product", "updated", "1", ["manual"])] * 3
    assert [(await item(n))["manual"] for n in range(3)] == [{"pages": 3}, {"pages": 4}, None]


async def test_a_deleted_root_shows_its_children(watched: Settings) -> None:
    product = await Product.create(name="lamp")
    foot = await Part.create(product=product, name="foot")
    await Bolt.create(part=foot, size=1)
    await forget()
    await product.delete()
    assert await changes() == [("product", "deleted", "1", [])]
    assert [len(p["bolts"]) for p in (await item())["parts"]] == [1]
    assert await Bolt.all().count() == 0


async def test_deleting_a_parent_records_its_cascades(watched: Settings) -> None:
    maker = await Maker.create(name="Acme")
    await Branch.create(town="Riga", maker=maker)
    await Branch.create(town="Tartu")
    product = await Product.create(name="lamp", maker=maker)
    await forget()
    await maker.delete()
    assert sorted((c[0], c[1], c[3]) for c in await changes()) == [
        ("branch", "deleted", []),
        ("product", "updated", ["maker_id"]),
    ]
    assert (await Product.get(id=product.id)).maker_id is None


async def test_cascades_from_a_bulk_delete(watched: Settings) -> None:
    maker = await Maker.create(name="Acme")
    await Branch.create(town="Riga", maker=maker)
    await Product.create(name="lamp", maker=maker)
    await forget()
    await Maker.all().delete()
    assert sorted((c[0], c[1]) for c in await changes()) == [("branch", "deleted"), ("product", "updated")]


async def test_cascade_through_children(watched: Settings) -> None:
    product = await Product.create(name="lamp")
    foot = await Part.create(product=product, name="foot")
    await Bolt.create(part=foot, size=1)
    await forget()
    await foot.delete()
    assert await changes() == [("product", "updated", "1", ["parts"])]


async def test_writes_of_models_that_no_webhook_can_watch_record_nothing(watched: Settings) -> None:
    maker = await Maker.create(name="Acme")
    maker.name = "Emca"
    await maker.save()
    await Diary.create(text="dear diary")
    await Diary.filter(id=1).update(text="oh dear")
    await Diary.bulk_create([Diary(text="again")])
    await Diary.all().delete()
    assert await counts() == (0, 0, 0)


async def test_many_to_many_relations_are_not_part_of_an_object(watched: Settings) -> None:
    product = await Product.create(name="lamp")
    assert "diaries" not in await item()
    await forget()
    diary = await Diary.create(text="dear diary")
    await product.diaries.add(diary)
    await product.diaries.clear()
    await product.diaries.add(diary)
    await diary.delete()
    assert await counts() == (0, 0, 0)


async def test_a_child_without_a_parent_records_nothing(watched: Settings) -> None:
    with pytest.raises(IntegrityError):
        await Part.create(product_id=99, name="foot")
    assert (await counts(), await Part.all().count()) == ((0, 0, 0), 0)
