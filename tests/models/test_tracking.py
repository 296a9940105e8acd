"""Single writes, alone and in transactions: each committed difference is one change, everything else is none."""

import asyncio
from contextvars import copy_context
from typing import Any

import pytest
from tortoise import connections
from tortoise.exceptions import IntegrityError, TransactionManagementError
from tortoise.expressions import F
from tortoise.transactions import in_transaction

from ringback.models import Settings, TrackingError, writing
from ringback.models.event import Change
from ringback.models.transactions import unit_of
from ringback.models.wakeups import Topic, wakeups
from tests.support.recorded import changes, counts, forget, item, watch
from tests.support.shop import Branch, Maker, Part, Product
from tests.support.statements import counted

pytestmark = pytest.mark.every_database


class Oops(Exception):
    pass


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


async def test_nothing_changes_nothing(watched: Settings) -> None:
    product = await Product.create(name="lamp")
    before = product.changed_at
    await forget()
    await product.save()
    assert await counts() == (0, 0, 0)
    stored = await Product.get(id=product.id)
    assert stored.changed_at > before  # auto_now is stored, and is no change


async def test_our_transaction_rolled_back(watched: Settings) -> None:
    with pytest.raises(Oops):
        async with in_transaction():
            await Product.create(name="lamp")
            raise Oops
    assert await Product.all().count() == 0
    assert await counts() == (0, 0, 0)


async def test_the_transaction_around_rolled_back(watched: Settings) -> None:
    with pytest.raises(Oops):
        async with in_transaction():
            async with in_transaction() as inner:
                await Product.create(name="lamp", using_db=inner)
            await Branch.create(town="Riga")
            raise Oops
    assert await counts() == (0, 0, 0)


async def test_savepoint_rolled_back(watched: Settings) -> None:
    async with in_transaction():
        await Product.create(name="kept")
        with pytest.raises(Oops):
            async with in_transaction() as inner:
                await Product.create(name="lost", using_db=inner)
                await Product.filter(name="kept").using_db(inner).update(name="spoilt")
                raise Oops
    assert await changes() == [("product", "created", "1", [])]
    assert (await item())["name"] == "kept"


async def test_only_a_savepoint_that_rolled_back(watched: Settings) -> None:
    async with in_transaction():
        with pytest.raises(Oops):
            async with in_transaction():
                await Product.create(name="lost")
                raise Oops
    assert await counts() == (0, 0, 0)


async def test_savepoint_kept_in_a_transaction_kept(watched: Settings) -> None:
    async with in_transaction():
        async with in_transaction() as inner:
            await Product.create(name="lamp", using_db=inner)
        assert await Change.all().count() == 0
    assert await changes() == [("product", "created", "1", [])]


async def test_object_and_child_twice_in_one_transaction(watched: Settings) -> None:
    product = await Product.create(name="lamp")
    part = await Part.create(product=product, name="shade")
    await forget()
    async with in_transaction():
        product.name = "bulb"
        await product.save()
        part.name = "foot"
        await part.save()
        part.name = "cable"
        await part.save()
    assert await changes() == [("product", "updated", "1", ["name", "parts"])]
    assert (await item())["parts"][0]["name"] == "cable"


async def test_create_and_update(watched: Settings) -> None:
    async with in_transaction():
        product = await Product.create(name="lamp")
        product.name = "bulb"
        await product.save()
        await Part.create(product=product, name="shade")
    assert await changes() == [("product", "created", "1", [])]
    assert ((await item())["name"], (await item())["part_count"]) == ("bulb", 1)


async def test_create_and_delete(watched: Settings) -> None:
    async with in_transaction():
        await (await Product.create(name="lamp")).delete()
        branch = await Branch.create(town="Riga")
        await Branch.filter(id=branch.id).delete()
    assert await counts() == (0, 0, 0)


async def test_delete_and_create_under_the_same_key(watched: Settings) -> None:
    first = await Branch.create(town="Riga", staff=1)
    await forget()
    async with in_transaction():
        await first.delete()
        await Branch.create(id=first.id, town="Riga", staff=2)
    assert await changes() == [("branch", "updated", (await item())["id"], ["staff"])]
    await forget()
    async with in_transaction():
        await first.delete()
        await Branch.create(id=first.id, town="Riga", staff=2)
    assert await counts() == (0, 0, 0)


async def test_update_and_delete(watched: Settings) -> None:
    branch = await Branch.create(town="Riga")
    await forget()
    async with in_transaction():
        branch.town = "Tartu"
        await branch.save()
        await branch.delete()
    assert [c[:2] for c in await changes()] == [("branch", "deleted")]
    assert (await item())["town"] == "Riga"  # the last state that anybody saw


async def test_there_and_back_again(watched: Settings) -> None:
    branch = await Branch.create(town="Riga")
    await forget()
    async with in_transaction():
        await Branch.filter(id=branch.id).update(town="Tartu")
        await branch.save()
    assert await counts() == (0, 0, 0)


async def test_two_writers_with_stale_instances(watched: Settings) -> None:
    branch = await Branch.create(town="Riga", staff=1)
    await forget()
    one, two = await Branch.get(id=branch.id), await Branch.get(id=branch.id)
    one.staff = 2
    await one.save()
    two.town = "Tartu"
    await two.save()  # writes staff=1 again, which one knows nothing of
    assert [(c[1], c[3]) for c in await changes()] == [("updated", ["staff"]), ("updated", ["town", "staff"])]
    await forget()
    one.town = "Tartu"
    await one.save(update_fields=["town"])  # is Tartu already
    assert await counts() == (0, 0, 0)


async def test_many_tasks_of_one_transaction(watched: Settings) -> None:
    product = await Product.create(name="lamp")
    await forget()
    async with in_transaction():
        parts = [Part(product=product, name=f"part {n}") for n in range(20)]
        again = Product(id=product.id, name="bulb")
        again._saved_in_db = True
        await asyncio.gather(*(part.save() for part in parts), again.save())
    assert await changes() == [("product", "updated", "1", ["name", "parts"])]
    assert (await item())["part_count"] == 20


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
    branch.staff = F("staff") + 1
    await branch.save(update_fields=["staff"])
    assert ([c[1:] for c in await changes()], (await item())["staff"]) == (
        [("updated", (await item())["id"], ["staff"])],
        2,
    )


async def test_keys_as_text(watched: Settings) -> None:
    branch = await Branch.create(town="Riga")
    await forget()
    again = await Branch.get(id=branch.id)
    again.id = str(branch.id)  # type: ignore[assignment]
    again.town = "Tartu"
    await again.save()
    assert [(c[1], c[3]) for c in await changes()] == [("updated", ["town"])]


async def test_an_instance_that_takes_the_key_of_another(watched: Settings) -> None:
    one, two = await Branch.create(town="Riga"), await Branch.create(town="Tartu")
    await forget()
    one.id, one.town = two.id, "Narva"
    await one.save()
    assert await changes() == [("branch", "updated", Branch.tracking.object_id(two.id), ["town"])]


async def test_force_update_of_what_is_not_there(watched: Settings) -> None:
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
            async with in_transaction():  # without it Postgres would go on with nothing
                await Branch.create(town="Riga")
    assert await counts() == (0, 0, 0)


async def test_an_insert_that_fails_says_nothing_of_the_row_that_is_there(watched: Settings) -> None:
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


async def test_an_insert_is_recorded_without_a_look_at_what_was_there(watched: Settings) -> None:
    await Branch.create(town="Oslo")  # reads the database's clock
    with counted() as statements:
        await Branch.create(town="Riga")
    texts = [s.split(": [")[0] for s in statements]
    assert [text.split()[0] for text in texts if '"branch"' in text] == ["INSERT", "SELECT"]


async def test_explicit_commit_and_rollback(watched: Settings) -> None:
    outside = copy_context()
    async with in_transaction() as tx:
        await Branch.create(town="Riga")
        await tx.commit()
        assert len(await asyncio.get_running_loop().create_task(changes(), context=outside)) == 1
        with pytest.raises(TransactionManagementError, match="has ended"):
            await Branch.create(town="Tartu")
    await forget()
    async with in_transaction() as tx:
        await Branch.create(town="Tallinn")
        await tx.rollback()
    assert await counts() == (0, 0, 0)
    assert await Branch.all().count() == 1


async def test_explicit_commit_of_a_savepoint_keeps_the_rest(watched: Settings) -> None:
    with pytest.raises(Oops):
        async with in_transaction():
            async with in_transaction() as inner:
                await Branch.create(town="Riga", using_db=inner)
                await inner.commit()
                with pytest.raises(TransactionManagementError, match="has ended"):
                    await Branch.create(town="Tartu", using_db=inner)
            raise Oops
    assert (await counts(), await Branch.all().count()) == ((0, 0, 0), 0)
    async with in_transaction():
        async with in_transaction() as inner:
            await Branch.create(town="Riga", using_db=inner)
            await inner.rollback()
        await Branch.create(town="Tartu")
    assert ([c[1] for c in await changes()], (await item())["town"]) == (["created"], "Tartu")


async def test_closed_transaction_is_refused(watched: Settings) -> None:
    async with in_transaction() as tx:
        pass
    for write in (Branch(town="Riga").save(tx), Branch.filter(town="Riga").using_db(tx).update(staff=1)):
        with pytest.raises(TransactionManagementError, match="has ended"):
            await write
    assert (await counts(), await Branch.all().count()) == ((0, 0, 0), 0)


async def test_task_that_outlives_its_transaction_is_refused(watched: Settings) -> None:
    go = asyncio.Event()

    async def late() -> None:
        await go.wait()
        await Branch.create(town="Riga")

    async with in_transaction():
        task = asyncio.create_task(late())
        await Branch.create(town="Tartu")
    go.set()
    with pytest.raises(TransactionManagementError, match="must not be started inside it"):
        await task
    assert [b.town for b in await Branch.all()] == ["Tartu"]
    assert len(await changes()) == 1


async def test_error_before_the_commit_rolls_back(watched: Settings) -> None:
    async def fail() -> None:
        raise Oops

    with pytest.raises(Oops):
        async with in_transaction() as tx:
            await Branch.create(town="Riga")
            unit = unit_of(tx)
            assert unit is not None
            unit.before_commit(fail)
    assert (await counts(), await Branch.all().count()) == ((0, 0, 0), 0)


async def test_no_commit_after_a_step_before_it_has_failed(watched: Settings) -> None:
    async def fail() -> None:
        raise Oops

    with pytest.raises(TransactionManagementError, match="can only roll back"):
        async with in_transaction() as tx:
            await Branch.create(town="Riga")
            unit = unit_of(tx)
            assert unit is not None
            unit.before_commit(fail)
            with pytest.raises(Oops):
                await tx.commit()
    assert (await counts(), await Branch.all().count()) == ((0, 0, 0), 0)


async def test_what_a_step_before_the_commit_writes_is_recorded(watched: Settings) -> None:
    async def late() -> None:
        await Branch.create(town="Tartu")
        await Branch.filter(town="Riga").update(staff=3)

    async with in_transaction() as tx:
        await Branch.create(town="Riga")
        unit = unit_of(tx)
        assert unit is not None
        unit.before_commit(late)
    assert [c[1] for c in await changes()] == ["created", "created"]
    assert [(await item(n))["staff"] for n in (0, 1)] == [3, 0]


async def test_wake_up_follows_the_real_commit(watched: Settings) -> None:
    due, logged = wakeups.listen(Topic.DUE), wakeups.listen(Topic.LOGGED)
    async with in_transaction():
        async with in_transaction():
            await Branch.create(town="Riga")
        assert not await due.wait(0.02)
    assert await due.wait(5)
    assert await logged.wait(5)
    with pytest.raises(Oops):
        async with in_transaction():
            await Branch.create(town="Tartu")
            raise Oops
    assert not await due.wait(0.02)
    await Branch.filter(town="Riga").update(staff=0)  # changes nothing
    assert not await due.wait(0.02)


async def test_readers_see_what_is_committed(watched: Settings) -> None:
    outside = copy_context()
    async with in_transaction() as tx:
        await Branch.create(town="Riga")
        assert await Branch.all().count() == 1
        assert await Branch.all().using_db(tx).count() == 1
        assert await asyncio.get_running_loop().create_task(count_branches(), context=outside) == 0
    assert await Branch.all().count() == 1


async def count_branches() -> int:
    return await Branch.all().count()


async def test_sql_of_ones_own(watched: Settings) -> None:
    maker = await Maker.create(name="Acme")
    for n in range(3):
        await Branch.create(town=f"town {n}", maker=maker)
    await forget()
    keys = await Branch.all().order_by("town").values_list("id", flat=True)
    async with writing(Branch, *[str(key) for key in keys]) as db:
        await db.execute_query("UPDATE branch SET staff = 9 WHERE town < 'town 2'")
    assert [c[1] for c in await changes()] == ["updated", "updated"]
    await forget()
    async with writing(Maker, maker.id) as db:
        await db.execute_query("DELETE FROM maker")
    assert [c[1] for c in await changes()] == ["deleted"] * 3


async def test_raw_reads_and_refuses_to_write(watched: Settings) -> None:
    await Branch.create(town="Riga")
    await forget()
    for sql in ("SELECT * FROM branch", "with b as (select * from branch) select * from b"):
        assert [b.town for b in await Branch.raw(sql)] == ["Riga"]
    for sql in ("DELETE FROM branch", " update branch set staff=1", "WITH x AS (SELECT 1) DELETE FROM branch"):
        with pytest.raises(TrackingError, match=r"use `async with writing\(Branch, key\)"):
            Branch.raw(sql)
    assert (await counts(), await Branch.all().count()) == ((0, 0, 0), 1)


async def test_a_pre_save_listener_that_moves_a_child(watched: Settings) -> None:
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


async def test_watching_begins_with_the_webhook(shop: Settings) -> None:
    branch = await Branch.create(town="Riga")
    assert await counts() == (0, 0, 0)
    await watch("branch")
    branch.staff = 1
    await branch.save()
    assert [c[1] for c in await changes()] == ["updated"]


async def test_a_client_from_before_the_transaction(watched: Settings) -> None:
    client = connections.get("default")
    async with in_transaction():
        for write in (Branch(town="Riga").save(client), client.execute_query("DELETE FROM branch")):
            with pytest.raises(TransactionManagementError, match="use its connection"):
                await write
