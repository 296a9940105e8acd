"""Publishing and declaring at the same time, on every database: nothing is recorded twice."""

import asyncio
import hashlib
import json
import random
from dataclasses import replace
from typing import Any

import pytest
from tortoise.transactions import in_transaction

from ringback.models import Settings
from ringback.models.database import advisory_locks, clock
from ringback.models.declared_model import DeclaredModel, IdempotencyKey, fill_template_fields
from ringback.models.enums import Action
from ringback.models.errors import InputRejected, ProblemCode
from ringback.models.event import Change, Event
from ringback.models.services import publishing, webhook_models
from ringback.models.services.change_checks import Publication
from ringback.models.services.decimal_fields import DecimalFieldsCache
from ringback.models.services.declared_models import declare_model
from ringback.models.services.publishing import Published, publish_changes
from tests.support.lag import share_of_allowed
from tests.support.recorded import watch
from tests.support.statements import counted

pytestmark = pytest.mark.every_database

WITH_PRICE = {"type": "object", "properties": {"id": {"type": "string"}, "price": {"type": "number"}}}
WITHOUT = {"type": "object", "properties": {"id": {"type": "string"}}, "additionalProperties": False}


async def declare(schema: Any = WITH_PRICE, **given: Any) -> DeclaredModel:
    return await declare_model("part", given.get("label", "Part"), None, schema, {}, force=given.get("force", False))


def change(number: int = 1, key: str | None = None) -> Publication:
    item = {"id": str(number), "price": number}
    return Publication(model="part", action=Action.CREATED, object_id=str(number), item=item, idempotency_key=key)


async def test_a_change_is_recorded_once_by_calls_at_the_same_time_with_one_key(database: Settings) -> None:
    await declare()
    await watch("part")
    calls = [publish_changes([change(1, "a"), change(2, "b"), change(3)]) for _ in range(6)]
    calls += [publish_changes([change(2, "b"), change(1, "a"), change(3)]) for _ in range(6)]
    answers = await asyncio.gather(*calls)
    event_ids: dict[str, set[tuple[Any, ...]]] = {"1": set(), "2": set(), "3": set()}
    new = 0
    for answer in answers:
        new += sum(not published.duplicate for published in answer)
        for published in answer:
            event_ids[published.object_id].add(published.event_ids)
    assert {name: len(ids) for name, ids in event_ids.items()} == {"1": 1, "2": 1, "3": 12}
    assert new == await Change.all().count() == await Event.all().count() == 14
    assert await IdempotencyKey.all().count() == 2


async def test_conditions_compare_decimals_as_numbers(database: Settings) -> None:
    price = {"type": "string", "format": "decimal"}
    await declare({"type": "object", "properties": {"price": price, "rate": {"type": "number"}}})
    hook = await watch("part", condition="item.price > 1000 and item.rate < item.price")
    items = [{"price": "999.00", "rate": 1}, {"price": "1000.01", "rate": 1000.005}, {"price": "9", "rate": 1}]

    published = await publish_changes([Publication("part", Action.CREATED, "1", item) for item in items])

    assert [len(one.event_ids) for one in published] == [0, 1, 0]
    assert [(c.item, hook.id) for c in await Change.all()] == [(items[1], hook.id)]


async def test_declarations_at_the_same_time(database: Settings) -> None:
    rows = await asyncio.gather(*(declare(label=f"Part {n}") for n in range(8)))
    assert [row.label for row in rows] == [f"Part {n}" for n in range(8)]
    assert (await DeclaredModel.get()).label in {row.label for row in rows}


async def test_a_change_is_checked_against_the_schema_at_its_commit(database: Settings) -> None:
    await declare()
    await watch("part")

    async def publish(number: int) -> list[Published] | InputRejected:
        try:
            return await publish_changes([change(number)])
        except InputRejected as rejected:
            return rejected

    *answers, _ = await asyncio.gather(*(publish(n) for n in range(10)), declare(WITHOUT))
    declared_at = (await DeclaredModel.get()).updated_at
    refused = [a for a in answers if isinstance(a, InputRejected)]
    assert await Change.all().count() == 10 - len(refused)
    assert [c for c in await Change.all() if c.created_at > declared_at] == []


async def test_the_number_of_statements_does_not_depend_on_the_number_of_changes(
    database: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A slow run must not need another look at the server's clock.
    monkeypatch.setattr(clock, "READING_SECONDS", 3_600.0)
    await declare()
    await watch("part")
    # The first change of a model compiles its schema.
    await publish_changes([change(1_000)])
    numbers = []
    for size in (50, 500):
        with counted() as statements:
            await publish_changes([change(n, f"{size}.{n}" if n % 2 else None) for n in range(size)])
        numbers.append(len([s for s in statements if s]))
    assert numbers[0] == numbers[1] <= 13


@pytest.mark.parametrize("change_count", [2, publishing.EARLY_CHANGES])
async def test_changes_with_too_many_events_are_refused(
    database: Settings, monkeypatch: pytest.MonkeyPatch, change_count: int
) -> None:
    """They would be written in one transaction, for which all other writers wait on SQLite."""
    monkeypatch.setattr(publishing, "MAX_EVENTS", 2 * change_count)
    await declare()
    for actions in (("CREATED",), ("CREATED", "DELETED"), ("UPDATED",)):
        await watch("part", actions=actions)
    changes = [change(number, str(number)) for number in range(change_count)]
    await publish_changes(changes)
    await watch("part", actions=("CREATED",))

    more = [change(number) for number in range(change_count)]
    with pytest.raises(InputRejected) as rejected:
        await publish_changes(more)

    (problem,) = rejected.value.problems
    assert (problem.field, problem.code) == ("changes", ProblemCode.TOO_LARGE)
    assert problem.message.startswith(f"changes may create {3 * change_count} events")
    assert await Change.all().count() == change_count
    assert [published.duplicate for published in await publish_changes(changes)] == [True] * change_count


async def test_a_single_change_creates_all_of_its_events(database: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publishing, "MAX_EVENTS", 1)
    await declare()
    for _ in range(3):
        await watch("part")

    (published,) = await publish_changes([change()])

    assert len(published.event_ids) == 3


async def test_a_lock_is_held_until_the_transaction_ends(database: Settings) -> None:
    order: list[str] = []
    inside = asyncio.Event()

    async def first() -> None:
        async with in_transaction() as db:
            await advisory_locks.acquire(db, ["b", "a"])
            inside.set()
            await asyncio.sleep(0.1)
            order.append("first")

    async def second() -> None:
        await inside.wait()
        async with in_transaction() as db:
            await advisory_locks.acquire(db, [])
            await advisory_locks.acquire(db, ["a"], shared=True)
            order.append("second")

    await asyncio.gather(first(), second())
    assert order == ["first", "second"]


async def test_the_order_of_changed_fields_is_not_part_of_a_change(database: Settings) -> None:
    await declare()
    await watch("part")
    fields = ["price", "id"]
    first = Publication("part", Action.UPDATED, "1", {"id": "1", "price": 1}, fields, "k")

    (published,) = await publish_changes([first])
    again = [replace(first, changed_fields=names) for names in (["id", "price"], ["id", "price", "id"])]
    repeated = await publish_changes(again)

    assert [(row.duplicate, row.event_ids) for row in repeated] == [(True, published.event_ids)] * 2
    assert (await Change.get()).changed_fields == fields
    for names in (["id"], None):
        with pytest.raises(InputRejected, match="was used before for another change"):
            await publish_changes([replace(first, changed_fields=names)])


async def test_a_key_stored_by_version_0_1_0_still_holds(database: Settings) -> None:
    await declare()
    change = Publication("part", Action.UPDATED, "1", {"id": "1", "price": 1}, ["price", "id"], "k")
    digest = hashlib.sha256(b"('part', 'UPDATED', '1', 'price', 'id')" + b'{"id":"1","price":1}').hexdigest()
    await IdempotencyKey.create(model="part", key="k", digest=digest, event_ids=[], created_at=await clock.now())

    (published,) = await publish_changes([change])

    assert published.duplicate


async def test_declared_names(database: Settings) -> None:
    await declare()
    assert await webhook_models.find_declared_names() == ["part"]


@pytest.mark.measures_cpu
async def test_costly_checks_do_not_hold_the_loop(database: Settings) -> None:
    items = {"type": "array", "items": {"allOf": [{"minimum": n} for n in range(200)]}}
    await declare({"type": "object", "properties": {"a": items}})
    changes = [Publication("part", Action.CREATED, "1", {"a": [300] * 1_500}) for _ in range(100)]

    async def publish() -> None:
        with pytest.raises(InputRejected, match="Send fewer in one call"):
            await publish_changes(changes)

    assert await share_of_allowed(publish) < 1


@pytest.mark.measures_cpu
async def test_many_changed_fields_do_not_hold_the_loop(database: Settings) -> None:
    nested: dict[str, Any] = {"properties": {f"n{n}": {} for n in range(1_500)}}
    await declare({"type": "object", "properties": {"a": nested}, "additionalProperties": True})
    fields = [f"x{n}" for n in range(1_000)]
    changes = [Publication("part", Action.UPDATED, "1", {}, fields) for _ in range(20)]

    async def publish() -> None:
        await publish_changes(changes)

    assert await share_of_allowed(publish) < 1


@pytest.mark.measures_cpu
async def test_suggesting_names_does_not_hold_the_loop(database: Settings) -> None:
    letters = random.Random(1)
    names = ["".join(letters.choices("abcd", k=100)) for _ in range(1_500)]
    await declare({"type": "object", "properties": {name: {} for name in names}, "additionalProperties": False})
    unknown = [name[1:] + "e" for name in names[:100]]

    async def publish() -> None:
        with pytest.raises(InputRejected, match="has no field"):
            await publish_changes([Publication("part", Action.UPDATED, "1", {}, unknown)])

    assert await share_of_allowed(publish) < 1


async def test_a_similar_field_is_suggested(database: Settings) -> None:
    await declare(WITHOUT | {"properties": {"price": {}}})

    with pytest.raises(InputRejected) as caught:
        await publish_changes([Publication("part", Action.UPDATED, "1", {}, ["prize"] * 4)])

    hints = ["Did you mean price?" in problem.message for problem in caught.value.problems]
    assert hints == [True, True, True, False]


async def test_a_model_whose_schema_exceeds_a_limit_is_refused_by_name(database: Settings) -> None:
    await declare()
    too_large = {"type": "object", "properties": {"a": {"pattern": "((a{100}){100}){100}"}}}
    await DeclaredModel.all().update(json_schema=json.dumps(too_large))

    with pytest.raises(InputRejected) as caught:
        await publish_changes([change(1)])

    (problem,) = caught.value.problems
    assert (problem.field, problem.code) == ("changes[0].model", ProblemCode.TOO_LARGE)
    assert problem.message.startswith("The schema of the model part cannot be used any more: jsonSchema.properties.a")
    assert await Change.all().count() == 0


async def test_a_model_with_a_keyword_of_older_drafts_is_refused(database: Settings) -> None:
    await declare()
    await DeclaredModel.all().update(json_schema='{"type": "object", "dependencies": {"id": ["price"]}}')

    with pytest.raises(InputRejected) as caught:
        await publish_changes([change(1)])

    (problem,) = caught.value.problems
    assert problem.message == (
        "The schema of the model part cannot be used any more: jsonSchema.dependencies is not a keyword of draft "
        "2020-12. Use dependentRequired or dependentSchemas. Declare the model again."
    )


async def test_filled_fields_do_not_replace_those_of_a_newer_declaration(database: Settings) -> None:
    newer = [["item.new", "string", ""]]
    await declare()
    await DeclaredModel.all().update(template_fields=None)
    is_declared = asyncio.Event()

    async def fill() -> None:
        await is_declared.wait()
        await fill_template_fields()

    filling = asyncio.create_task(fill())
    async with in_transaction() as db:
        await DeclaredModel.all().using_db(db).update(json_schema=json.dumps(WITHOUT), template_fields=newer)
        is_declared.set()
        await asyncio.sleep(0.2)  # the task has read the older declaration and waits for the row
    await filling

    assert (await DeclaredModel.get()).template_fields == newer


async def test_decimals_are_found_once_the_fields_are_filled(database: Settings) -> None:
    await declare({"type": "object", "properties": {"price": {"type": "string", "format": "decimal"}}})
    await DeclaredModel.all().update(template_fields=None)
    cache = DecimalFieldsCache()
    assert not (await cache.find(["part"]))["part"]

    await fill_template_fields()

    assert (await cache.find(["part"]))["part"]


async def test_a_model_that_another_process_declares_again_is_checked_anew(database: Settings) -> None:
    """Schemas are cached by their text, and fields by the time of the declaration."""
    await declare()
    await publish_changes([change(1)])
    await DeclaredModel.all().update(json_schema=json.dumps(WITHOUT), updated_at=await clock.now())

    with pytest.raises(InputRejected, match="is not a field of this model"):
        await publish_changes([change(1)])
