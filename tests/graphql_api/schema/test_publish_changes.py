"""Publishing changes over the API: events, idempotency keys, and invalid changes."""

import asyncio
import datetime as dt
from typing import Any

import pytest

from ringback.models.database import clock
from ringback.models.declared_model import IdempotencyKey
from ringback.models.delivery_log import LogEntry
from ringback.models.enums import Action
from ringback.models.event import Change, Event
from ringback.models.services.change_checks import Publication
from ringback.models.services.publishing import EARLY_CHANGES, publish_changes
from tests.support.api import Api
from tests.support.declared import HOOK, PART, SCHEMA, asked_for, change, publish, recorded, refused
from tests.support.patience import PATIENCE_SECONDS
from tests.support.statements import counted


async def test_published_changes_become_events(api: Api) -> None:
    await api.do("DeclareModel", input=PART)
    dear = (await api.do("CreateWebhook", input={**HOOK, "condition": "item.price > 1"}))["webhook"]["id"]
    created = (await api.do("CreateWebhook", input={**HOOK, "actions": ["CREATED"]}))["webhook"]["id"]
    first, second, third = await publish(
        api,
        change(1),
        change(2, action="UPDATED", changedFields=["price", "price", "unit_price"]),
        change(1, action="DELETED"),
    )
    assert [(a["objectId"], len(a["eventIds"]), a["duplicate"]) for a in (first, second, third)] == [
        ("1", 1, False), ("2", 1, False), ("1", 0, False),
    ]  # fmt: skip
    event = await api.ask("Event", id=first["eventIds"][0])
    assert (event["webhook"]["id"], event["model"]["name"], event["action"]) == (created, "part", "CREATED")
    event = await api.ask("Event", id=second["eventIds"][0])
    assert (event["webhook"]["id"], event["changedFields"]) == (dear, ["price", "unit_price"])
    assert event["item"] == {"id": "2", "price": 2}
    assert await recorded() == (2, 2, 2, 0)


async def test_without_a_webhook_only_the_key_is_recorded(api: Api) -> None:
    await api.do("DeclareModel", input=PART)
    keyed = change(idempotencyKey="k")
    assert await publish(api, keyed) == [{"objectId": "1", "eventIds": [], "duplicate": False}]
    assert await recorded() == (0, 0, 0, 1)
    await api.do("CreateWebhook", input=HOOK)
    assert await publish(api, keyed) == [{"objectId": "1", "eventIds": [], "duplicate": True}]
    assert await recorded() == (0, 0, 0, 1)
    assert await publish(api) == []


async def test_changes_of_one_object_become_events_in_order(api: Api) -> None:
    await api.do("DeclareModel", input=PART)
    await api.do("CreateWebhook", input=HOOK)
    answers = await publish(api, *(change(n, objectId="same", action="UPDATED") for n in range(20)))
    ids = [answer["eventIds"][0] for answer in answers]
    assert ids == sorted(ids)
    assert [e.object_id for e in await Event.all()] == ["same"] * 20
    stored = [c.item["price"] for c in await Change.all().order_by("id")]
    assert stored == list(range(20))
    logged = [entry.event_id for entry in await LogEntry.all().order_by("id")]
    assert logged == [event.id for event in await Event.all().order_by("id")]


async def test_a_change_with_a_used_key_is_a_duplicate_or_a_conflict(api: Api) -> None:
    await api.do("DeclareModel", input=PART)
    await api.do("DeclareModel", input={**PART, "name": "other"})
    await api.do("CreateWebhook", input=HOOK)
    first, again, other = await publish(
        api, change(idempotencyKey="k"), change(idempotencyKey="k"), change(idempotencyKey="k", model="other")
    )
    assert (first["duplicate"], again["duplicate"], other["duplicate"]) == (False, True, False)
    assert first["eventIds"] == again["eventIds"] != []
    # The order of keys and an empty `changedFields` do not make it another change.
    reordered = change(idempotencyKey="k", item={"price": 1, "id": "1"}, changedFields=[])
    assert await publish(api, reordered) == [again]
    assert await recorded() == (1, 1, 1, 2)
    conflict = "was used before for another change of part. Use a new key for each change."
    path = "changes[1].idempotencyKey"
    for given in ({"item": {"id": "1", "price": 2}}, {"action": "UPDATED"}, {"objectId": "2"}):
        assert await refused(api, change(7), change(idempotencyKey="k", **given)) == [
            ("CONFLICT", f"input.{path}", f"{path} {conflict}")
        ]
    assert await refused(api, change(1, idempotencyKey="n"), change(2, idempotencyKey="n")) == [
        ("CONFLICT", f"input.{path}", f"{path} {conflict}")
    ]
    # A duplicate is recognised even if its item no longer matches the schema.
    await api.do("DeclareModel", input={**PART, "jsonSchema": {**SCHEMA, "required": ["id", "tags"]},
                                        "sample": {"id": "1", "tags": []}})  # fmt: skip
    assert await publish(api, change(idempotencyKey="k")) == [again]
    assert len(await refused(api, change())) == 1


async def test_keys_are_stored_for_a_day(api: Api) -> None:
    await api.do("DeclareModel", input=PART)
    await api.do("CreateWebhook", input=HOOK)
    await publish(api, *(change(n, idempotencyKey=str(n)) for n in range(4)))
    a_day_ago = await clock.now() - dt.timedelta(hours=24)
    await IdempotencyKey.filter(key__in=["0", "1"]).update(created_at=a_day_ago - dt.timedelta(seconds=1))
    # This key is still valid at the call, even if the test is slow.
    not_yet = a_day_ago + dt.timedelta(seconds=PATIENCE_SECONDS)
    await IdempotencyKey.filter(key="2").update(created_at=not_yet)
    again = await publish(api, change(5, idempotencyKey="0"), change(2, idempotencyKey="2"))
    assert [answer["duplicate"] for answer in again] == [False, True]
    assert sorted([key.key for key in await IdempotencyKey.all()]) == ["0", "2", "3"]


async def test_concurrent_calls_with_one_key_record_the_change_once(api: Api) -> None:
    await api.do("DeclareModel", input=PART)
    await api.do("CreateWebhook", input=HOOK)
    answers = await asyncio.gather(*(publish(api, change(idempotencyKey="k"), change(2)) for _ in range(8)))
    assert sorted(answer[0]["duplicate"] for answer in answers) == [False] + [True] * 7
    assert len({answer[0]["eventIds"][0] for answer in answers}) == 1
    assert await recorded() == (9, 9, 9, 1)


async def test_a_call_costs_a_constant_number_of_statements(api: Api) -> None:
    """From EARLY_CHANGES on, models and webhooks are read before the transaction too.

    Webhooks are read twice there: to count the events, and to evaluate conditions.
    """
    await api.do("DeclareModel", input=PART)
    await api.do("DeclareModel", input={**PART, "name": "other"})
    await api.do("CreateWebhook", input=HOOK)
    await api.do("CreateWebhook", input={**HOOK, "condition": "item.price >= 0"})
    # The first change of a model compiles its schema.
    await publish(api, change(1_000, model="part"), change(1_001, model="other"))
    counts = []
    for size in (10, EARLY_CHANGES, 500):
        changes = [
            change(n, model=("part", "other")[n % 2], idempotencyKey=f"{size}.{n}" if n % 3 else None)
            for n in range(size)
        ]
        with counted() as statements:
            answers = await publish(api, *changes)
        assert [a["objectId"] for a in answers] == [str(n) for n in range(size)]
        counts.append([s.split()[0] for s in asked_for(statements)])
    few, many = ["SELECT"] * 4 + ["INSERT"] * 4, ["SELECT"] * 7 + ["INSERT"] * 4
    assert counts == [few, many, many]
    assert await recorded() == (266, 532, 532, 6 + 13 + 333)


INVALID: list[tuple[dict[str, Any], str, str, str]] = [
    ({"model": "prt"}, "NOT_FOUND", "model", "There is no declared model 'prt'. Did you mean part?"),
    ({"model": "\ud800"}, "NOT_FOUND", "model", "There is no declared model '\\ud800'."),
    ({"model": "lead"}, "CONFLICT", "model",
     "The model lead is tracked in code, which records its changes. They cannot be published."),
    ({"objectId": ""}, "INVALID", "objectId", "changes[1].objectId is empty. Enter a value."),
    ({"objectId": "x" * 256}, "TOO_LARGE", "objectId", "changes[1].objectId has 256 characters. Enter at most 255."),
    *(({"objectId": text}, "INVALID", "objectId", "changes[1].objectId starts or ends with white space. Remove it.")
      for text in (" x", "x\t", "x\u00a0", "\u3000x", "x\u2028", "x\x85")),
    *(({"objectId": text}, "INVALID", "objectId", "changes[1].objectId has no visible character. Enter a value.")
      for text in (" ", "\u00a0", "\u200b\ufeff", "\u3164", "\u2800\u2009")),
    ({"objectId": "a\0b"}, "INVALID", "objectId", "changes[1].objectId contains U+0000 at character 2. Remove it."),
    ({"objectId": "47\u202811"}, "INVALID", "objectId",
     "changes[1].objectId contains U+2028 (LINE SEPARATOR) at character 3. Remove it."),
    ({"objectId": "4711\u200b"}, "INVALID", "objectId",
     "changes[1].objectId contains U+200B (ZERO WIDTH SPACE) at character 5. Remove it."),
    ({"idempotencyKey": ""}, "INVALID", "idempotencyKey", "changes[1].idempotencyKey is empty. Enter a value."),
    ({"idempotencyKey": "k" * 256}, "TOO_LARGE", "idempotencyKey",
     "changes[1].idempotencyKey has 256 characters. Enter at most 255."),
    ({"idempotencyKey": "\ud800"}, "INVALID", "idempotencyKey",
     "changes[1].idempotencyKey contains U+D800 at character 1. Remove it."),
    ({"idempotencyKey": "k\u2003"}, "INVALID", "idempotencyKey",
     "changes[1].idempotencyKey starts or ends with white space. Remove it."),
    ({"changedFields": ["price"]}, "INVALID", "changedFields",
     "changes[1].changedFields is set for a CREATED object. Leave it out, or send action UPDATED."),
    ({"action": "UPDATED", "changedFields": ["price", "prize"]}, "INVALID", "changedFields[1]",
     "The model part has no field 'prize'. Did you mean price?"),
    ({"action": "UPDATED", "changedFields": ["price", "a\0"]}, "INVALID", "changedFields[1]",
     "changes[1].changedFields[1] contains a NUL or lone surrogate character. Remove it."),
    ({"action": "UPDATED", "changedFields": ["\ud800"]}, "INVALID", "changedFields[0]",
     "changes[1].changedFields[0] contains a NUL or lone surrogate character. Remove it."),
    ({"action": "UPDATED", "changedFields": ["id"] * 1_001}, "TOO_LARGE", "changedFields",
     "changes[1].changedFields has 1,001 entries. Enter at most 1,000."),
    ({"item": "x"}, "INVALID", "item",
     'changes[1].item is not a JSON object. Send an object, such as {"price": 350.5}.'),
    ({"item": []}, "INVALID", "item",
     'changes[1].item is not a JSON object. Send an object, such as {"price": 350.5}.'),
    ({"item": {"id": "1", "price": "x"}}, "INVALID", "item.price",
     "changes[1].item.price must be a number, not a string."),
    ({"item": {"id": "1", "price": True}}, "INVALID", "item.price",
     "changes[1].item.price must be a number, not a boolean."),
    ({"item": {"id": "1", "price": -1}}, "INVALID", "item.price", "changes[1].item.price must be at least 0."),
    ({"item": {"id": "1"}}, "INVALID", "item.price", "changes[1].item.price is missing."),
    ({"item": {"id": "1", "price": 1, "unit_price": "x"}}, "INVALID", "item.unit_price",
     "changes[1].item.unit_price must be a number or null, not a string."),
    ({"item": {"id": "1", "price": 1, "tags": ["a", 2]}}, "INVALID", "item.tags[1]",
     "changes[1].item.tags[1] must be a string, not a number."),
    ({"item": {"id": "1", "price": 1, "added_at": "now"}}, "INVALID", "item.added_at",
     "changes[1].item.added_at must be a valid date-time."),
    ({"item": {"id": "1", "price": 1, "lines": [{}, {"quantity": 1.5}]}}, "INVALID", "item.lines[1].quantity",
     "changes[1].item.lines[1].quantity must be an integer, not a decimal number."),
    ({"item": {"id": "1", "price": 1, "lines": [{"unit price": 1}]}}, "INVALID", 'item.lines[0]["unit price"]',
     'changes[1].item.lines[0]["unit price"] is not a field of this model.'),
    ({"item": {"id": "x" * 262_145, "price": 1}}, "TOO_LARGE", "item",
     "changes[1].item has 262,164 bytes. Enter at most 262,144."),
]  # fmt: skip


@pytest.mark.parametrize(("given", "code", "field", "message"), INVALID)
async def test_an_invalid_change_is_refused(
    api: Api, given: dict[str, Any], code: str, field: str, message: str
) -> None:
    await api.do("DeclareModel", input=PART)
    await api.do("CreateWebhook", input=HOOK)
    bad = change(9, **{"idempotencyKey": "k", **given})
    assert await refused(api, change(1), bad, change(2)) == [(code, f"input.changes[1].{field}", message)]


@pytest.mark.parametrize("space", [" ", "\u00a0", "\u2009", "\u202f", "\u3000"])
async def test_an_id_may_contain_spaces_of_any_kind(api: Api, space: str) -> None:
    await api.do("DeclareModel", input=PART)
    await api.do("CreateWebhook", input=HOOK)
    object_id = f"47{space}11"

    (answer,) = await publish(api, change(objectId=object_id, idempotencyKey=f"k{space}1"))

    assert answer["objectId"] == object_id
    assert [event.object_id for event in await Event.all()] == [object_id]


async def test_up_to_a_hundred_errors_are_listed(api: Api) -> None:
    await api.do("DeclareModel", input=PART)
    bad = change(objectId="", model="lead", item={"id": 1, "price": "x"}, changedFields=["price"])
    assert [field for _, field, _ in await refused(api, bad, change(model="no"))] == [
        "input.changes[0].objectId", "input.changes[0].changedFields", "input.changes[0].model",
        "input.changes[1].model",
    ]  # fmt: skip
    bad = change(item={"id": 1, "price": "x"})
    assert [field for _, field, _ in await refused(api, change(), bad)] == [
        "input.changes[1].item.id", "input.changes[1].item.price",
    ]  # fmt: skip
    many = change(item={"id": "1", "price": 1, "tags": [1] * 1_000})
    refusals = await refused(api, *[many] * 3)
    assert len(refusals) == 100
    assert refusals[-1][1] == "input.changes[0].item.tags[99]"
    assert await refused(api, *[change()] * 501) == [
        ("TOO_LARGE", "input.changes", "changes has 501 entries. Send at most 500 in one call.")
    ]


@pytest.mark.parametrize("item", [{"id": "a\0", "price": 1}, {"id": "\ud800", "price": 1}, {"\0": 1}])
async def test_text_that_cannot_be_stored_is_refused(api: Api, item: Any) -> None:
    await api.do("DeclareModel", input=PART)
    code, message = await api.error("PublishChanges", input={"changes": [change(item=item)]})
    assert code == "BAD_USER_INPUT"
    assert "contains a NUL or lone surrogate character. Remove it." in message


async def test_publishing_many_changes_does_not_block_the_loop(api: Api) -> None:
    await api.do("DeclareModel", input=PART)
    for _ in range(3):
        await api.do("CreateWebhook", input={**HOOK, "condition": "item.id contains 'x' or item.price == 1"})
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    await publish_changes([Publication("part", Action.CREATED, str(n), {"id": "1", "price": 2}) for n in range(500)])
    task.cancel()
    assert turns > 5
