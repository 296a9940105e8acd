"""Tests of writes in transactions: each committed difference is one change, and a rollback leaves nothing."""

import asyncio
from contextvars import copy_context

import pytest
from tortoise import connections
from tortoise.exceptions import TransactionManagementError
from tortoise.transactions import in_transaction

from ringback.models import Settings
from ringback.models.database.notifications import Topic, notifier
from ringback.models.database.unit_of_work import find_unit
from ringback.models.event import Change
from ringback.models.webhook import Webhook
from tests.support.patience import PATIENCE_SECONDS
from tests.support.recorded import changes, counts, forget, item
from tests.support.shop import Branch, Part, Product

pytestmark = pytest.mark.every_database


class Oops(Exception):
    pass


async def test_a_transaction_that_is_rolled_back(watched: Settings) -> None:
    with pytest.raises(Oops):
        async with in_transaction():
            await Product.create(name="lamp")
            raise Oops
    assert await Product.all().count() == 0
    assert await counts() == (0, 0, 0)


async def test_an_outer_transaction_that_is_rolled_back(watched: Settings) -> None:
    with pytest.raises(Oops):
        async with in_transaction():
            async with in_transaction() as inner:
                await Product.create(name="lamp", using_db=inner)
            await Branch.create(town="Riga")
            raise Oops
    assert await counts() == (0, 0, 0)


async def test_a_savepoint_that_is_rolled_back(watched: Settings) -> None:
    async with in_transaction():
        await Product.create(name="outer")
        with pytest.raises(Oops):
            async with in_transaction() as inner:
                await Product.create(name="lost", using_db=inner)
                await Product.filter(name="outer").using_db(inner).update(name="spoilt")
                raise Oops
    assert await changes() == [("product", "created", "1", [])]
    assert (await item())["name"] == "outer"


async def test_a_transaction_with_only_a_savepoint_that_is_rolled_back(watched: Settings) -> None:
    async with in_transaction():
        with pytest.raises(Oops):
            async with in_transaction():
                await Product.create(name="lost")
                raise Oops
    assert await counts() == (0, 0, 0)


async def test_a_committed_savepoint_in_a_committed_transaction(watched: Settings) -> None:
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
    assert (await item())["town"] == "Riga"  # the last committed state


async def test_a_change_that_is_undone_records_nothing(watched: Settings) -> None:
    branch = await Branch.create(town="Riga")
    await forget()
    async with in_transaction():
        await Branch.filter(id=branch.id).update(town="Tartu")
        await branch.save()
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
    with pytest.raises(TransactionManagementError, match="start tasks that outlive a transaction outside of it$"):
        await task
    assert [b.town for b in await Branch.all()] == ["Tartu"]
    assert len(await changes()) == 1


async def test_error_before_the_commit_rolls_back(watched: Settings) -> None:
    async def fail() -> None:
        raise Oops

    with pytest.raises(Oops):
        async with in_transaction() as tx:
            await Branch.create(town="Riga")
            unit = find_unit(tx)
            assert unit is not None
            unit.before_commit(fail)
    assert (await counts(), await Branch.all().count()) == ((0, 0, 0), 0)


async def test_no_commit_after_a_step_before_it_has_failed(watched: Settings) -> None:
    async def fail() -> None:
        raise Oops

    with pytest.raises(TransactionManagementError, match="can only roll back"):
        async with in_transaction() as tx:
            await Branch.create(town="Riga")
            unit = find_unit(tx)
            assert unit is not None
            unit.before_commit(fail)
            with pytest.raises(Oops):
                await tx.commit()
    assert (await counts(), await Branch.all().count()) == ((0, 0, 0), 0)


async def test_writes_of_a_step_before_the_commit_are_recorded(watched: Settings) -> None:
    async def late() -> None:
        await Branch.create(town="Tartu")
        await Branch.filter(town="Riga").update(staff=3)

    async with in_transaction() as tx:
        await Branch.create(town="Riga")
        unit = find_unit(tx)
        assert unit is not None
        unit.before_commit(late)
    assert sorted(c[1] for c in await changes()) == ["created", "created", "updated"]


async def test_notifications_follow_the_outermost_commit(watched: Settings) -> None:
    await Webhook.all().update(retry_delays=[0])
    due, logged = notifier.listen(Topic.DUE), notifier.listen(Topic.LOGGED)
    async with in_transaction():
        async with in_transaction():
            await Branch.create(town="Riga")
        assert not await due.wait(0.02)
    assert await due.wait(PATIENCE_SECONDS)
    assert await logged.wait(PATIENCE_SECONDS)
    with pytest.raises(Oops):
        async with in_transaction():
            await Branch.create(town="Tartu")
            raise Oops
    assert not await due.wait(0.02)
    await Branch.filter(town="Riga").update(staff=0)  # changes nothing
    assert not await due.wait(0.02)


async def test_other_readers_see_only_committed_rows(watched: Settings) -> None:
    outside = copy_context()
    async with in_transaction() as tx:
        await Branch.create(town="Riga")
        assert await Branch.all().count() == 1
        assert await Branch.all().using_db(tx).count() == 1
        assert await asyncio.get_running_loop().create_task(count_branches(), context=outside) == 0
    assert await Branch.all().count() == 1


async def count_branches() -> int:
    return await Branch.all().count()


async def test_a_client_from_outside_the_transaction_is_refused(watched: Settings) -> None:
    client = connections.get("default")
    async with in_transaction():
        for write in (Branch(town="Riga").save(client), client.execute_query("DELETE FROM branch")):
            with pytest.raises(TransactionManagementError, match="use its connection"):
                await write
