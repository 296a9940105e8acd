"""Tests of single writes: each difference of the stored row is one change, and nothing else is."""

from typing import Any

import pytest
from tortoise.exceptions import IntegrityError
from tortoise.expressions import F
from tortoise.transactions import in_transaction

from ringback.models import Settings, TrackingError, track_sql
from tests.support.recorded import changes, counts, forget, item, watch
from tests.support.shop import Branch, Maker, Part, Product
from tests.support.statements import counted

pytestmark = pytest.mark.every_database


async def test_bare_save_and_delete(watched: Settings) -> None:
    product = Product(name="lamp")
    await product.save()
    product.name = "bulb"
    await product.save()
    await product.delete()
    assert await changes() == [
        ("product", "created", "1", []),
        ("product", "updated", "1", ["name"]),
        ("product", "deleted", "1", []),
    ]
    assert [c["name"] for c in (await item(0), await item(1), await item(2))] == ["lamp", "bulb", "bulb"]


async def test_a_save_without_a_difference_records_nothing(watched: Settings) -> None:
    product = await Product.create(name="lamp")
    before = product.changed_at
    await forget()
    await product.save()
    assert await counts() == (0, 0, 0)
    stored = await Product.get(id=product.id)
    assert stored.changed_at > before  # auto_now is stored, but is not a change


async def test_two_writers_with_stale_instances(watched: Settings) -> None:
    branch = await Branch.create(town="Riga", staff=1)
    await forget()
    first, second = await Branch.get(id=branch.id), await Branch.get(id=branch.id)
    first.staff = 2
    await first.save()
    second.town = "Tartu"
    await second.save()  # writes staff=1 again: this instance was read before the first save
    assert [(c[1], c[3]) for c in await changes()] == [("updated", ["staff"]), ("updated", ["town", "staff"])]
    await forget()
    first.town = "Tartu"
    await first.save(update_fields=["town"])  # is Tartu already
    assert await counts() == (0, 0, 0)


async def test_get_or_create_and_update_or_create(watched: Settings) -> None:
    for _ in range(2):
        await Branch.get_or_create(town="Riga", defaults={"staff": 1})
    for _ in range(2):
        await Branch.update_or_create(town="Riga", defaults={"staff": 2})
    await Branch.update_or_create(town="Tartu", defaults={"staff": 3})
    assert [(c[1], c[3]) for c in await changes()] == [("created", []), ("updated", ["staff"]), ("created", [])]


async def test_update_fields(watched: Settings) -> None:
    branch = await Branch.create(town="Riga")
    await forget()
    branch.town, branch.staff = "Tartu", 5
    await branch.save(update_fields=["staff"])
    assert [(c[1], c[3]) for c in await changes()] == [("updated", ["staff"])]
    partial = await Branch.get(id=branch.id).only("id", "staff")
    partial.staff = 6
    await partial.save(update_fields=["staff"])
    assert [(c[1], c[3]) for c in (await changes())[1:]] == [("updated", ["staff"])]
    assert (await item())["town"] == "Riga"


async def test_expressions(watched: Settings) -> None:
    branch = await Branch.create(town="Riga", staff=1)
    await forget()
    branch.staff = F("staff") + 1  # type: ignore[assignment]
    await branch.save(update_fields=["staff"])
    assert ([c[1:] for c in await changes()], (await item())["staff"]) == (
        [("updated", (await item())["id"], ["staff"])],
        2,
    )


async def test_a_key_given_as_text_is_the_same_row(watched: Settings) -> None:
    branch = await Branch.create(town="Riga")
    await forget()
    again = await Branch.get(id=branch.id)
    again.id = str(branch.id)  # type: ignore[assignment]
    again.town = "Tartu"
    await again.save()
    assert [(c[1], c[3]) for c in await changes()] == [("updated", ["town"])]


async def test_an_instance_saved_under_the_key_of_another_updates_the_other(watched: Settings) -> None:
    instance, other = await Branch.create(town="Riga"), await Branch.create(town="Tartu")
    await forget()
    instance.id, instance.town = other.id, "Narva"
    await instance.save()
    assert await changes() == [("branch", "updated", Branch.tracking.encode_id(other.id), ["town"])]


async def test_force_update_of_a_missing_row_records_nothing(watched: Settings) -> None:
    with pytest.raises(IntegrityError):
        await Branch(town="Riga").save(force_update=True)
    assert await counts() == (0, 0, 0)


async def test_unique_violation_leaves_nothing(watched: Settings) -> None:
    await Branch.create(town="Riga")
    await forget()
    with pytest.raises(IntegrityError):
        await Branch.create(town="Riga")
    async with in_transaction():
        with pytest.raises(IntegrityError):
            async with in_transaction():  # without this savepoint Postgres refuses all later statements
                await Branch.create(town="Riga")
    assert await counts() == (0, 0, 0)


async def test_a_failed_insert_does_not_hide_a_later_update_of_the_same_row(watched: Settings) -> None:
    product = await Product.create(name="lamp")
    await forget()
    async with in_transaction():
        for fail in (
            Product.create(id=product.id, name="other"),
            Product.bulk_create([Product(id=product.id, name="other")]),
        ):
            with pytest.raises(IntegrityError):
                async with in_transaction():
                    await fail
        product.name = "lantern"
        await product.save()
    assert await changes() == [("product", "updated", "1", ["name"])]


async def test_an_insert_is_recorded_without_reading_the_row_first(watched: Settings) -> None:
    await Branch.create(town="Oslo")  # reads the database's clock
    with counted() as statements:
        await Branch.create(town="Riga")
    texts = [s.split(": [")[0] for s in statements]
    assert [text.split()[0] for text in texts if '"branch"' in text] == ["INSERT", "SELECT"]


async def test_own_sql_is_recorded(watched: Settings) -> None:
    maker = await Maker.create(name="Acme")
    for n in range(3):
        await Branch.create(town=f"town {n}", maker=maker)
    await forget()
    keys = await Branch.all().order_by("town").values_list("id", flat=True)
    async with track_sql(Branch, *[str(key) for key in keys]) as db:
        await db.execute_query("UPDATE branch SET staff = 9 WHERE town < 'town 2'")
    assert [c[1] for c in await changes()] == ["updated", "updated"]
    await forget()
    async with track_sql(Maker, maker.id) as db:
        await db.execute_query("DELETE FROM maker")
    assert [c[1] for c in await changes()] == ["deleted"] * 3


async def test_raw_reads_and_refuses_to_write(watched: Settings) -> None:
    await Branch.create(town="Riga")
    await forget()
    for sql in ("SELECT * FROM branch", "with b as (select * from branch) select * from b"):
        branches: list[Branch] = list(await Branch.raw(sql))
        assert [branch.town for branch in branches] == ["Riga"]
    for sql in ("DELETE FROM branch", " update branch set staff=1", "WITH x AS (SELECT 1) DELETE FROM branch"):
        with pytest.raises(TrackingError, match=r"Use `async with track_sql\(Branch, key\) as db`"):
            Branch.raw(sql)
    assert (await counts(), await Branch.all().count()) == ((0, 0, 0), 1)


async def test_a_pre_save_listener_that_moves_a_child_is_refused(watched: Settings) -> None:
    from tortoise.signals import Signals

    one, two = await Product.create(name="one"), await Product.create(name="two")
    part = await Part.create(product=one, name="foot")
    await forget()

    async def move(sender: Any, instance: Part, using_db: Any, update_fields: Any) -> None:
        instance.product_id = two.id

    Part.register_listener(Signals.pre_save, move)
    try:
        with pytest.raises(TrackingError, match="moved a row to another Product"):
            await part.save()
    finally:
        Part._listeners[Signals.pre_save][Part].remove(move)
    assert (await counts(), (await Part.get(id=part.id)).product_id) == ((0, 0, 0), one.id)


async def test_changes_are_recorded_once_a_webhook_exists(shop: Settings) -> None:
    branch = await Branch.create(town="Riga")
    assert await counts() == (0, 0, 0)
    await watch("branch")
    branch.staff = 1
    await branch.save()
    assert [c[1] for c in await changes()] == ["updated"]
