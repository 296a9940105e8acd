"""Objects of other programs over the API: declared, watched, published, and refused."""

import asyncio
import datetime as dt
from typing import Any

import pytest

from ringback.models import clock, declarations
from ringback.models.declared import DeclaredModel
from ringback.models.event import Change, Event
from ringback.models.idempotency import IdempotencyKey
from ringback.models.log import LogEntry
from ringback.models.publishing import Publication, publish_changes
from ringback.models.webhook import Action
from tests.support.api import Api, contents
from tests.support.statements import counted

SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "required": ["id", "price"],
    "properties": {
        "id": {"type": "string"},
        "price": {"type": "number", "minimum": 0, "description": "What it costs."},
        "unit_price": {"anyOf": [{"type": "number"}, {"type": "null"}]},
        "added_at": {"type": "string", "format": "date-time"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "lines": {"type": "array", "items": {"$ref": "#/$defs/line"}},
    },
    "$defs": {
        "line": {
            "type": "object",
            "properties": {"sku": {"type": "string"}, "quantity": {"type": "integer"}},
            "additionalProperties": False,
        }
    },
}
SAMPLE = {"id": "1", "price": 350.5, "lines": [{"sku": "a", "quantity": 2}]}
PART = {"name": "part", "label": "Part", "jsonSchema": SCHEMA, "sample": SAMPLE}
HOOK = {"model": "part", "actions": ["CREATED", "UPDATED", "DELETED"], "url": "https://hooks.example/"}


def change(number: int = 1, **given: Any) -> dict[str, Any]:
    item = {"id": str(number), "price": number}
    return {"model": "part", "action": "CREATED", "objectId": str(number), "item": item, **given}


async def publish(api: Api, *changes: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await api.do("PublishChanges", input={"changes": list(changes)}))["changes"]
    return found


async def refused(api: Api, *changes: dict[str, Any]) -> list[tuple[str, str | None, str]]:
    return await api.refusals("PublishChanges", input={"changes": list(changes)})


def asked_for(statements: list[str]) -> list[str]:
    """Statements without those of the tailer, which looks at the log when it likes."""
    return [s for s in statements if not (s.startswith("SELECT") and 'FROM "ringback_log"' in s)]


async def recorded() -> tuple[int, int, int, int]:
    return (
        await Change.all().count(),
        await Event.all().count(),
        await LogEntry.all().count(),
        await IdempotencyKey.all().count(),
    )


async def test_a_declared_model_is_in_the_catalog(api: Api) -> None:
    made = await api.do("DeclareModel", input={**PART, "description": "Something to fit in."})
    fields = [(f["path"], f["type"]) for f in made["model"]["fields"]]
    assert fields == [
        ("item.id", "string"),
        ("item.price", "float"),
        ("item.unit_price", "float"),
        ("item.added_at", "datetime"),
        ("item.tags", "list"),
        ("item.tags[]", "string"),
        ("item.lines", "list"),
        ("item.lines[].sku", "string"),
        ("item.lines[].quantity", "integer"),
    ]
    assert made["model"]["fields"][1]["description"] == "What it costs."
    assert (made["model"]["id"], made["model"]["name"], made["model"]["label"]) == ("part", "part", "Part")
    assert made["model"]["sample"] == SAMPLE
    models = await api.ask("WebhookModels")
    assert [m["name"] for m in models] == ["customer_order", "lead", "part"]
    assert models[2] | made["model"] == models[2]
    described = await api.ask('{ webhookModels { label(locale: "ru") description } }')
    assert described[2] == {"label": "Part", "description": "Something to fit in."}
    assert described[1]["label"] == "Лид: заказ обратного звонка"


async def test_declaring_again_updates(api: Api) -> None:
    await api.do("DeclareModel", input={**PART, "description": "Old."})
    before = await contents()
    await api.do("DeclareModel", input={**PART, "description": "Old."})
    assert await contents() == before
    schema = {"type": "object", "properties": {"id": {"type": "integer"}}}
    made = await api.do("DeclareModel", input={**PART, "label": "New", "jsonSchema": schema, "sample": {"id": 5}})
    assert made["model"] == {
        "id": "part", "name": "part", "label": "New", "sample": {"id": 5},
        "fields": [{"path": "item.id", "type": "integer", "description": ""}],
    }  # fmt: skip
    (stored,) = (await contents())["DeclaredModel"]
    (old,) = before["DeclaredModel"]
    assert stored["created_at"] == old["created_at"] < stored["updated_at"]
    assert stored["description"] == ""


async def test_a_webhook_is_checked_against_the_declared_fields(api: Api) -> None:
    async def create(**fields: Any) -> Any:
        return await api.refusals("CreateWebhook", input={**HOOK, **fields})

    assert await create() == [("NOT_FOUND", "input.model", "There is no model 'part'.")]
    await api.do("DeclareModel", input=PART)
    assert await api.refusals("CreateWebhook", input={**HOOK, "model": "prt"}) == [
        ("NOT_FOUND", "input.model", "There is no model 'prt': did you mean part?")
    ]
    assert await create(bodyTemplate="{{ item.prise }}") == [
        ("INVALID", "input.bodyTemplate", "Unknown field item.prise: did you mean item.price? (line 1, column 4).")
    ]
    assert await create(condition="item.lines[0].colour == 1") == [
        ("INVALID", "input.condition", "Unknown field item.lines[0].colour (line 1, column 1).")
    ]
    made = await api.do(
        "CreateWebhook",
        input={**HOOK, "url": "https://hooks.example/{{ item.id }}", "condition": "item.price > 3",
               "bodyTemplate": "{% for line in item.lines %}{{ line.sku }}{% endfor %}{{ item.tags | join: ',' }}",
               "headers": [{"name": "x-unit", "value": "{{ item.unit_price }}"}]},
    )  # fmt: skip
    assert made["webhook"]["model"]["name"] == "part"
    assert (await api.ask("Webhook", id=made["webhook"]["id"]))["model"]["label"] == "Part"


async def test_taking_away_a_field_that_a_webhook_uses(api: Api) -> None:
    await api.do("DeclareModel", input=PART)
    used = {
        "name": "Price list", "bodyTemplate": "{{ item.price }} {{ item.id }}", "condition": "item.tags contains 'x'",
        "headers": [{"name": "a", "value": "{{ item.unit_price }}"}],
        "url": "https://hooks.example/{{ item.lines[0].sku }}",
    }  # fmt: skip
    first = (await api.do("CreateWebhook", input={**HOOK, **used}))["webhook"]["id"]
    second = (await api.do("CreateWebhook", input={**HOOK, "isActive": False, "bodyTemplate": "{{ item.price }}"}))[
        "webhook"
    ]["id"]
    await api.do("CreateWebhook", input={**HOOK, "bodyTemplate": "{{ item.id }}"})
    await api.do("CreateWebhook", input={**HOOK, "sendJson": True, "bodyTemplate": "{{ item.price }}"})
    gone = (await api.do("CreateWebhook", input={**HOOK, "bodyTemplate": "{{ item.price }}"}))["webhook"]["id"]
    await api.do("DeleteWebhook", id=gone)
    less = {**PART, "jsonSchema": {"type": "object", "properties": {"id": {"type": "string"}}}, "sample": {}}
    after = "which this schema does not have: change the webhook first, or declare with force: true."
    assert await api.refusals("DeclareModel", input=less) == [
        ("CONFLICT", "input.jsonSchema",
         f'The webhook "Price list" ({first}) uses item.lines[0].sku, item.price, item.tags, item.unit_price, {after}'),
        ("CONFLICT", "input.jsonSchema", f"The webhook ({second}) uses item.price, {after}"),
    ]  # fmt: skip
    await api.do("DeclareModel", input={**less, "force": True})
    # What is lost already is not lost again.
    await api.do("DeclareModel", input={**less, "jsonSchema": {**less["jsonSchema"], "additionalProperties": False}})


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


async def test_with_no_webhook_nothing_but_the_key_is_recorded(api: Api) -> None:
    await api.do("DeclareModel", input=PART)
    asked = change(idempotencyKey="k")
    assert await publish(api, asked) == [{"objectId": "1", "eventIds": [], "duplicate": False}]
    assert await recorded() == (0, 0, 0, 1)
    await api.do("CreateWebhook", input=HOOK)
    assert await publish(api, asked) == [{"objectId": "1", "eventIds": [], "duplicate": True}]
    assert await recorded() == (0, 0, 0, 1)
    assert await publish(api) == []


async def test_several_changes_of_one_object_are_told_one_by_one_in_order(api: Api) -> None:
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


async def test_an_idempotency_key(api: Api) -> None:
    await api.do("DeclareModel", input=PART)
    await api.do("DeclareModel", input={**PART, "name": "other"})
    await api.do("CreateWebhook", input=HOOK)
    first, again, other = await publish(
        api, change(idempotencyKey="k"), change(idempotencyKey="k"), change(idempotencyKey="k", model="other")
    )
    assert (first["duplicate"], again["duplicate"], other["duplicate"]) == (False, True, False)
    assert first["eventIds"] == again["eventIds"] != []
    # The order of names and an empty list make no other change.
    turned = change(idempotencyKey="k", item={"price": 1, "id": "1"}, changedFields=[])
    assert await publish(api, turned) == [again]
    assert await recorded() == (1, 1, 1, 2)
    conflict = "must not be used again for another change of this model: take a key of its own."
    path = "changes[1].idempotencyKey"
    for given in ({"item": {"id": "1", "price": 2}}, {"action": "UPDATED"}, {"objectId": "2"}):
        assert await refused(api, change(7), change(idempotencyKey="k", **given)) == [
            ("CONFLICT", f"input.{path}", f"{path} {conflict}")
        ]
    assert await refused(api, change(1, idempotencyKey="n"), change(2, idempotencyKey="n")) == [
        ("CONFLICT", f"input.{path}", f"{path} {conflict}")
    ]
    # A repetition is answered even when its item would not be accepted any more.
    await api.do("DeclareModel", input={**PART, "jsonSchema": {**SCHEMA, "required": ["id", "tags"]},
                                        "sample": {"id": "1", "tags": []}})  # fmt: skip
    assert await publish(api, change(idempotencyKey="k")) == [again]
    assert len(await refused(api, change())) == 1


async def test_keys_are_kept_for_a_day(api: Api) -> None:
    await api.do("DeclareModel", input=PART)
    await api.do("CreateWebhook", input=HOOK)
    await publish(api, *(change(n, idempotencyKey=str(n)) for n in range(4)))
    old, day = await clock.now() - dt.timedelta(hours=24, seconds=5), dt.timedelta(seconds=10)
    await IdempotencyKey.filter(key__in=["0", "1"]).update(created_at=old)
    await IdempotencyKey.filter(key="2").update(created_at=old + day)
    again = await publish(api, change(5, idempotencyKey="0"), change(2, idempotencyKey="2"))
    assert [answer["duplicate"] for answer in again] == [False, True]
    assert sorted([key.key for key in await IdempotencyKey.all()]) == ["0", "2", "3"]


async def test_two_calls_at_once_with_one_key(api: Api) -> None:
    await api.do("DeclareModel", input=PART)
    await api.do("CreateWebhook", input=HOOK)
    answers = await asyncio.gather(*(publish(api, change(idempotencyKey="k"), change(2)) for _ in range(8)))
    assert sorted(answer[0]["duplicate"] for answer in answers) == [False] + [True] * 7
    assert len({answer[0]["eventIds"][0] for answer in answers}) == 1
    assert await recorded() == (9, 9, 9, 1)


async def test_two_declarations_at_once(api: Api) -> None:
    labels = [f"Part {n}" for n in range(8)]
    made = await asyncio.gather(*(api.do("DeclareModel", input={**PART, "label": label}) for label in labels))
    assert [m["model"]["label"] for m in made] == labels
    (stored,) = (await contents())["DeclaredModel"]
    assert stored["label"] in labels


async def test_a_webhook_and_a_declaration_at_once(api: Api) -> None:
    """Whichever comes first, no webhook is left with a field that its model does not have."""
    await api.do("DeclareModel", input=PART)
    less = {**PART, "jsonSchema": {"type": "object", "properties": {"id": {"type": "string"}}}, "sample": {}}
    hooks = [api.ask("CreateWebhook", input={**HOOK, "bodyTemplate": "{{ item.price }}"}) for _ in range(3)]
    *made, declared = await asyncio.gather(*hooks, api.ask("DeclareModel", input=less))
    created = [m for m in made if not m["errors"]]
    assert (declared["errors"] == []) == (created == [])


async def test_a_call_costs_a_constant_number_of_statements(api: Api) -> None:
    await api.do("DeclareModel", input=PART)
    await api.do("DeclareModel", input={**PART, "name": "other"})
    await api.do("CreateWebhook", input=HOOK)
    await api.do("CreateWebhook", input={**HOOK, "condition": "item.price >= 0"})
    counts = []
    for size in (10, 500):
        changes = [
            change(n, model=("part", "other")[n % 2], idempotencyKey=f"{size}.{n}" if n % 3 else None)
            for n in range(size)
        ]
        with counted() as statements:
            answers = await publish(api, *changes)
        assert [a["objectId"] for a in answers] == [str(n) for n in range(size)]
        counts.append([s.split()[0] for s in asked_for(statements)])
    assert counts == [["SELECT"] * 4 + ["INSERT"] * 4] * 2
    assert await recorded() == (255, 510, 510, 6 + 333)


async def test_a_page_of_events_of_declared_models(api: Api) -> None:
    await api.do("DeclareModel", input=PART)
    await api.do("CreateWebhook", input=HOOK)
    await publish(api, *(change(n) for n in range(100)))
    names = "query { page: events(first: 100) { nodes { model { id name } } } }"
    rest = "query { page: events(first: 100) { nodes { model { id name label fields { path } sample } } } }"
    for document, cost in ((names, 1), (rest, 2)):
        with counted() as statements:
            page = await api.ask(document)
        assert [node["model"]["name"] for node in page["nodes"]] == ["part"] * 100
        assert len(asked_for(statements)) == cost, statements
    with counted() as statements:
        await api.ask("WebhookModels")
    assert len(asked_for(statements)) == 1


async def test_a_test_fire_sends_the_declared_sample(api: Api) -> None:
    await api.do("DeclareModel", input=PART)
    hook = (await api.do("CreateWebhook", input={**HOOK, "isActive": False}))["webhook"]["id"]
    fired = await api.do("TestFireWebhook", input={"webhookId": hook})
    assert (await api.ask("Event", id=fired["event"]["id"]))["item"] == SAMPLE


INVALID: list[tuple[dict[str, Any], str, str, str]] = [
    ({"model": "prt"}, "NOT_FOUND", "model", "There is no declared model 'prt': did you mean part?"),
    ({"model": "\ud800"}, "NOT_FOUND", "model", "There is no declared model '\\ud800'."),
    ({"model": "lead"}, "CONFLICT", "model",
     "The model lead is tracked in code: its changes are recorded there, and cannot be published."),
    ({"objectId": ""}, "INVALID", "objectId", "changes[1].objectId must not be empty."),
    ({"objectId": "x" * 256}, "TOO_LARGE", "objectId", "changes[1].objectId has 256 characters; 255 are allowed."),
    ({"objectId": " x"}, "INVALID", "objectId",
     "changes[1].objectId must be one line of Unicode text without control characters, and no blanks at its ends."),
    ({"objectId": "a\0b"}, "INVALID", "objectId",
     "changes[1].objectId must be one line of Unicode text without control characters, and no blanks at its ends."),
    ({"idempotencyKey": ""}, "INVALID", "idempotencyKey", "changes[1].idempotencyKey must not be empty."),
    ({"idempotencyKey": "k" * 256}, "TOO_LARGE", "idempotencyKey",
     "changes[1].idempotencyKey has 256 characters; 255 are allowed."),
    ({"idempotencyKey": "\ud800"}, "INVALID", "idempotencyKey",
     "changes[1].idempotencyKey must be one line of Unicode text without control characters, and no blanks at its "
     "ends."),
    ({"changedFields": ["price"]}, "INVALID", "changedFields",
     "changes[1].changedFields may be given only for an UPDATED object."),
    ({"action": "UPDATED", "changedFields": ["price", "prize"]}, "INVALID", "changedFields[1]",
     "No field of part: 'prize': did you mean price?"),
    ({"action": "UPDATED", "changedFields": ["id"] * 1_001}, "TOO_LARGE", "changedFields",
     "changes[1].changedFields has 1,001 entries; 1,000 are allowed."),
    ({"item": "x"}, "INVALID", "item", "changes[1].item must be a JSON object."),
    ({"item": []}, "INVALID", "item", "changes[1].item must be a JSON object."),
    ({"item": {"id": "1", "price": "x"}}, "INVALID", "item.price", "Not a number, but a string."),
    ({"item": {"id": "1", "price": True}}, "INVALID", "item.price", "Not a number, but a boolean."),
    ({"item": {"id": "1", "price": -1}}, "INVALID", "item.price", "changes[1].item.price must be at least 0."),
    ({"item": {"id": "1"}}, "INVALID", "item.price", "changes[1].item.price is missing."),
    ({"item": {"id": "1", "price": 1, "unit_price": "x"}}, "INVALID", "item.unit_price",
     "Not a number or null, but a string."),
    ({"item": {"id": "1", "price": 1, "tags": ["a", 2]}}, "INVALID", "item.tags[1]", "Not a string, but a number."),
    ({"item": {"id": "1", "price": 1, "added_at": "now"}}, "INVALID", "item.added_at", "Not a valid date-time."),
    ({"item": {"id": "1", "price": 1, "lines": [{}, {"quantity": 1.5}]}}, "INVALID", "item.lines[1].quantity",
     "Not a whole number, but a number."),
    ({"item": {"id": "1", "price": 1, "lines": [{"unit price": 1}]}}, "INVALID", 'item.lines[0]["unit price"]',
     "Not a field of this model."),
    ({"item": {"id": "x" * 262_145, "price": 1}}, "TOO_LARGE", "item",
     "changes[1].item has 262,164 bytes; 262,144 are allowed."),
]  # fmt: skip


@pytest.mark.parametrize(("given", "code", "field", "message"), INVALID)
async def test_a_change_that_is_refused(api: Api, given: dict[str, Any], code: str, field: str, message: str) -> None:
    await api.do("DeclareModel", input=PART)
    await api.do("CreateWebhook", input=HOOK)
    bad = change(9, **{"idempotencyKey": "k", **given})
    assert await refused(api, change(1), bad, change(2)) == [(code, f"input.changes[1].{field}", message)]


async def test_everything_that_is_wrong_is_told_at_once_up_to_a_hundred(api: Api) -> None:
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
    found = await refused(api, *[many] * 3)
    assert len(found) == 100
    assert found[-1][1] == "input.changes[0].item.tags[99]"
    assert await refused(api, *[change()] * 501) == [
        ("TOO_LARGE", "input.changes", "changes has 501 entries; 500 are allowed in one call.")
    ]


@pytest.mark.parametrize("item", [{"id": "a\0", "price": 1}, {"id": "\ud800", "price": 1}, {"\0": 1}])
async def test_what_json_refuses(api: Api, item: Any) -> None:
    await api.do("DeclareModel", input=PART)
    code, message = await api.error("PublishChanges", input={"changes": [change(item=item)]})
    assert code == "BAD_USER_INPUT"
    assert "Texts in JSON must not hold NUL or lone surrogate characters." in message


WHERE_NAMES = "must be written like spare_part: at most 100 of a-z, 0-9 and _, a letter first."
UNDECLARABLE: list[tuple[dict[str, Any], list[tuple[str, str, str]]]] = [
    ({"name": ""}, [("INVALID", "name", f"name {WHERE_NAMES}")]),
    ({"name": "Part"}, [("INVALID", "name", f"name {WHERE_NAMES}")]),
    ({"name": "x" * 101}, [("INVALID", "name", f"name {WHERE_NAMES}")]),
    ({"name": "part\n"}, [("INVALID", "name", f"name {WHERE_NAMES}")]),
    ({"name": "lead"},
     [("CONFLICT", "name", "The model lead is tracked in code and cannot be declared: choose another name.")]),
    ({"name": "evt_01h455vb4pex5vsknk084sn02q"},
     [("INVALID", "name", "name must not be the id of something else: choose another name.")]),
    ({"name": "site_settings"},
     [("INVALID", "name", "name must not be the id of something else: choose another name.")]),
    ({"label": " "}, [("INVALID", "label", "label must not be empty.")]),
    ({"label": "x" * 201}, [("TOO_LARGE", "label", "label has 201 characters; 200 are allowed.")]),
    ({"label": "a\nb"}, [("INVALID", "label",
     "label must be one line of Unicode text, without control characters.")]),
    ({"description": "x" * 10_001}, [("TOO_LARGE", "description",
     "description has 10,001 characters; 10,000 are allowed.")]),
    ({"description": "\0"}, [("INVALID", "description",
     "description must not hold NUL or lone surrogate characters.")]),
    ({"jsonSchema": True}, [("INVALID", "jsonSchema",
     'jsonSchema must be an object, such as {"type": "object", "properties": {…}}.')]),
    ({"jsonSchema": {"type": "string"}}, [("INVALID", "jsonSchema.type",
     'jsonSchema.type must be "object": what is published are objects.')]),
    ({"jsonSchema": {"type": "object", "properties": {"unit_price": {"$ref": "http://127.0.0.1:9/x"}}}},
     [("INVALID", 'jsonSchema.properties.unit_price["$ref"]',
       'jsonSchema.properties.unit_price["$ref"] must begin with #: nothing is fetched; put what it refers to into '
       "$defs.")]),
    ({"jsonSchema": {"type": "object", "description": "x" * 262_144}}, [("TOO_LARGE", "jsonSchema",
     "jsonSchema has 262,178 bytes; 262,144 are allowed.")]),
    ({"sample": {"id": 1, "lines": [{"sku": "a", "colour": 1}]}},
     [("INVALID", "sample.price", "sample.price is missing."),
      ("INVALID", "sample.id", "Not a string, but a number."),
      ("INVALID", "sample.lines[0].colour", "Not a field of this model.")]),
    ({"sample": "x"}, [("INVALID", "sample", "Not an object, but a string.")]),
    ({"sample": {"id": "x" * 262_144, "price": 1}},
     [("TOO_LARGE", "sample", "sample has 262,163 bytes; 262,144 are allowed.")]),
    ({"name": "", "label": "", "jsonSchema": {}},
     [("INVALID", "name", f"name {WHERE_NAMES}"), ("INVALID", "label", "label must not be empty."),
      ("INVALID", "jsonSchema.type", 'jsonSchema.type must be "object": what is published are objects.')]),
]  # fmt: skip


@pytest.mark.parametrize(("given", "expected"), UNDECLARABLE)
async def test_a_declaration_that_is_refused(
    api: Api, given: dict[str, Any], expected: list[tuple[str, str, str]]
) -> None:
    found = await api.refusals("DeclareModel", input={**PART, **given})
    assert sorted(found, key=str) == sorted([(code, f"input.{at}", text) for code, at, text in expected], key=str)


async def test_there_are_only_so_many_models(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(declarations, "MAX_MODELS", 1)
    await api.do("DeclareModel", input=PART)
    await api.do("DeclareModel", input={**PART, "label": "Again"})
    assert await api.refusals("DeclareModel", input={**PART, "name": "other"}) == [
        ("TOO_LARGE", "input.name", "There are 1 declared models, as many as are allowed.")
    ]


async def test_a_model_that_code_tracks_by_now(api: Api) -> None:
    """It was declared before; what is in code counts."""
    await api.do("DeclareModel", input=PART)
    row = await DeclaredModel.get(name="part")
    await DeclaredModel.create(**{**dict(row), "name": "lead"})
    (shown,) = [m for m in await api.ask("WebhookModels") if m["name"] == "lead"]
    assert shown["label"] == "Lead: callback request"
    assert [code for code, _, _ in await refused(api, change(model="lead"))] == ["CONFLICT"]


async def test_the_loop_has_its_turn_while_many_changes_are_published(api: Api) -> None:
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
