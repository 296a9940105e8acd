"""Tests of bulk writes: they record the same changes as single writes, or raise an error that names an alternative."""

import re

import pytest
from tortoise.exceptions import IntegrityError
from tortoise.expressions import F, Q
from tortoise.transactions import in_transaction

from ringback.models import Settings, TrackingError
from tests.support.recorded import changes, counts, forget, item
from tests.support.shop import Bolt, Branch, Maker, Manual, Part, Product
from tests.support.statements import counted


async def test_bulk_create(watched: Settings) -> None:
    towns = ["Riga", "Tartu", "Aizpute"]
    await Branch.bulk_create([Branch(town=town) for town in towns])
    assert [c[:2] for c in await changes()] == [("branch", "created")] * 3
    assert [(await item(n))["town"] for n in range(3)] == towns  # in the order of the objects


async def test_bulk_create_in_batches_is_one_transaction(watched: Settings) -> None:
    with pytest.raises(IntegrityError):
        await Branch.bulk_create([Branch(town=town) for town in ("Riga", "Tartu", "Riga")], batch_size=1)
    assert (await counts(), await Branch.all().count()) == ((0, 0, 0), 0)


async def test_bulk_create_is_refused_when_the_database_generates_the_keys(watched: Settings) -> None:
    with pytest.raises(TrackingError, match=r"Save the objects one by one inside one in_transaction\(\)"):
        await Product.bulk_create([Product(name="lamp")])
    assert (await counts(), await Product.all().count()) == ((0, 0, 0), 0)
    async with in_transaction():
        for name in ("lamp", "bulb"):
            await Product.create(name=name)
    await Product.bulk_create([Product(id=70, name="cable")])
    assert [(c[1], c[2]) for c in await changes()] == [("created", "1"), ("created", "2"), ("created", "70")]


async def test_bulk_create_of_children(watched: Settings) -> None:
    one, two = await Product.create(name="one"), await Product.create(name="two")
    await forget()
    await Part.bulk_create([Part(product=p, name=n) for p in (one, two) for n in ("b", "a")])
    assert await changes() == [("product", "updated", "1", ["parts"]), ("product", "updated", "2", ["parts"])]
    assert [p["name"] for p in (await item())["parts"]] == ["b", "a"]


async def test_bulk_create_of_grandchildren(watched: Settings) -> None:
    part = await Part.create(product=await Product.create(name="one"), name="foot")
    await forget()
    await Bolt.bulk_create([Bolt(part_id=part.id, size=size) for size in (1, 2)])
    assert await changes() == [("product", "updated", "1", ["parts"])]
    assert sorted(b["size"] for b in (await item())["parts"][0]["bolts"]) == [1, 2]


async def test_bulk_create_that_ignores_conflicts(watched: Settings) -> None:
    await Branch.create(town="Riga", staff=1)
    await forget()
    await Branch.bulk_create([Branch(town="Riga", staff=2), Branch(town="Tartu")], ignore_conflicts=True)
    assert [(c[1], c[3]) for c in await changes()] == [("created", [])]
    assert (await item())["town"] == "Tartu"


async def test_on_conflict_of_a_unique_column(watched: Settings) -> None:
    await Branch.bulk_create([Branch(town="Riga", staff=1), Branch(town="Tartu", staff=1)])
    await forget()
    await Branch.bulk_create(
        [Branch(town="Riga", staff=2), Branch(town="Tartu", staff=1), Branch(town="Cēsis")],
        on_conflict=["town"],
        update_fields=["staff"],
    )
    assert sorted((c[1], c[3]) for c in await changes()) == [("created", []), ("updated", ["staff"])]


async def test_on_conflict_of_the_key(watched: Settings) -> None:
    branch = await Branch.create(town="Riga", staff=1)
    await forget()
    again = Branch(id=branch.id, town="Riga", staff=5)
    await Branch.bulk_create([again], on_conflict=["id"], update_fields=["staff"])
    assert [(c[1], c[3]) for c in await changes()] == [("updated", ["staff"])]


async def test_bulk_update(watched: Settings) -> None:
    await Branch.bulk_create([Branch(town=f"town {n}", staff=1) for n in range(3)])
    branches = await Branch.all().order_by("town")
    await forget()
    branches[0].staff, branches[1].staff = 2, 1
    assert await Branch.bulk_update(branches, ["staff"]) == 3
    assert [(c[1], c[3]) for c in await changes()] == [("updated", ["staff"])]
    await forget()
    branches[0].town, branches[1].town, branches[2].town = "x", "y", "x"
    with pytest.raises(IntegrityError):
        await Branch.bulk_update(branches, ["town"], batch_size=1)
    assert await counts() == (0, 0, 0)


async def test_bulk_update_moves_children(watched: Settings) -> None:
    one, two, three = [await Product.create(name=name) for name in ("one", "two", "three")]
    parts = [await Part.create(product=p, name="foot") for p in (one, two)]
    await forget()
    for part in parts:
        part.product_id = three.id
    await Part.bulk_update(parts, ["product_id"])
    assert sorted(await changes()) == [("product", "updated", n, ["parts"]) for n in ("1", "2", "3")]


async def test_update(watched: Settings) -> None:
    await Branch.bulk_create([Branch(town=f"town {n}", staff=n) for n in range(4)])
    await forget()
    assert await Branch.filter(staff__gte=2).update(staff=3) == 2
    assert [(c[1], c[3]) for c in await changes()] == [("updated", ["staff"])]
    await forget()
    assert await Branch.filter(town="nowhere").update(staff=3) == 0
    assert await Branch.filter(Q(town="town 1") | Q(town="town 2")).update(staff=F("staff") * 1) == 2
    assert await counts() == (0, 0, 0)
    await Branch.all().update(staff=F("staff") + 1)
    assert [(c[1], c[3]) for c in await changes()] == [("updated", ["staff"])] * 4


async def test_update_through_a_relation(watched: Settings) -> None:
    product = await Product.create(name="one", maker=await Maker.create(name="Acme"))
    await Part.create(product=product, name="foot")
    await forget()
    await product.parts.all().update(name="leg")
    await product.parts.filter(name="leg").update(note="seen")
    assert await changes() == [("product", "updated", "1", ["parts"])] * 2
    await forget()
    await Product.filter(maker__name="Acme").update(name="two")
    await Part.filter(product__name="two").delete()
    assert [c[3] for c in await changes()] == [["name"], ["parts"]]


async def test_update_moves_children(watched: Settings) -> None:
    one, two = await Product.create(name="one"), await Product.create(name="two")
    await Part.create(product=one, name="foot")
    await forget()
    await Part.all().update(product=two)
    await Part.all().update(product_id=one.id)
    assert sorted(await changes()) == sorted([("product", "updated", n, ["parts"]) for n in ("1", "2")] * 2)
    with pytest.raises(TrackingError, match="an update sets product to an expression, so the new parents are unknown"):
        await Part.all().update(product_id=F("id"))
    assert await Part.filter(product_id=one.id).count() == 1


async def test_update_of_a_limited_query_set_records_every_written_row(watched: Settings) -> None:
    await Branch.bulk_create([Branch(town=f"town {n}") for n in range(3)])
    await forget()
    written = await Branch.all().order_by("town").limit(1).update(staff=1)
    assert len(await changes()) == written == await Branch.filter(staff=1).count()


async def test_delete(watched: Settings) -> None:
    await Branch.bulk_create([Branch(town=f"town {n}", staff=n) for n in range(4)])
    await forget()
    assert await Branch.filter(staff__lt=2).delete() == 2
    assert await Branch.filter(town="nowhere").delete() == 0
    assert [(c[1], c[3]) for c in await changes()] == [("deleted", [])] * 2
    await forget()
    await Branch.all().order_by("town").limit(1).delete()
    assert len(await changes()) == 2 - await Branch.all().count()


async def test_delete_of_children(watched: Settings) -> None:
    product = await Product.create(name="one")
    for name in ("foot", "leg"):
        await Part.create(product=product, name=name)
    await Manual.create(product=product, pages=9)
    await forget()
    await Part.filter(name="leg").delete()
    await Manual.all().delete()
    assert await changes() == [("product", "updated", "1", ["parts"]), ("product", "updated", "1", ["manual"])]
    assert ((await item(0))["manual"], (await item(1))["manual"]) == ({"pages": 9}, None)


async def test_bulk_writes_of_more_rows_than_one_statement_holds(
    watched: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ringback.models.tracking.snapshot.KEYS_PER_STATEMENT", 7)
    await Branch.bulk_create([Branch(town=f"town {n:02}") for n in range(30)])
    product = await Product.create(name="one")
    await Part.bulk_create([Part(product=product, name=f"{n:02}") for n in range(30)])
    parts = await Part.all()
    await forget()
    await Bolt.bulk_create([Bolt(part_id=part.id, size=3) for part in parts])
    assert len(await changes()) == 1
    assert [len(p["bolts"]) for p in (await item())["parts"]] == [1] * 30
    await forget()
    await Branch.all().update(staff=1)
    await Branch.all().delete()
    assert [c[1] for c in await changes()] == ["updated"] * 30 + ["deleted"] * 30


@pytest.mark.every_database
async def test_many_rows_are_read_in_several_statements(watched: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ringback.models.tracking.snapshot.KEYS_PER_STATEMENT", 7)
    branches = [Branch(town=f"town {n:02}") for n in range(15)]

    with counted() as statements:
        await Branch.bulk_create(branches)

    reads = [sql for sql in statements if sql.startswith("SELECT") and re.search(r'FROM "?branch', sql)]
    assert len(reads) == 3


async def test_sql_of_a_bulk_write(watched: Settings) -> None:
    assert Branch.filter(town="Riga").delete().sql().startswith('DELETE FROM "branch"')


async def test_bulk_writes_in_a_transaction_that_rolls_back(watched: Settings) -> None:
    await Branch.create(town="Riga")
    await forget()
    with pytest.raises(ZeroDivisionError):
        async with in_transaction() as tx:
            await Branch.bulk_create([Branch(town="Tartu")], using_db=tx)
            await Branch.filter(town="Riga").update(staff=1)
            await Branch.all().delete()
            raise ZeroDivisionError
    assert (await counts(), await Branch.all().count()) == ((0, 0, 0), 1)
