"""Declared models over the API: declaring, watching, reading, and invalid declarations."""

import asyncio
from typing import Any

import pytest

from ringback.models.declared_model import DeclaredModel
from ringback.models.services import declared_models
from tests.support.api import Api, contents
from tests.support.declared import HOOK, PART, SAMPLE, asked_for, change, publish, refused
from tests.support.statements import counted


async def test_a_declared_model_is_listed(api: Api) -> None:
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


async def test_declaring_a_model_again_updates_it(api: Api) -> None:
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
        ("NOT_FOUND", "input.model", "There is no model 'prt'. Did you mean part?")
    ]
    assert await create(bodyTemplate="{{ item.prise }}") == [
        ("INVALID", "input.bodyTemplate", "Unknown field item.prise. Did you mean item.price? (line 1, column 4).")
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


async def test_removing_a_field_that_a_webhook_uses_is_refused_unless_forced(api: Api) -> None:
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
    after = "which this schema does not have. Change the webhook first, or declare the model with force: true."
    assert await api.refusals("DeclareModel", input=less) == [
        ("CONFLICT", "input.jsonSchema",
         f'The webhook "Price list" ({first}) uses item.lines[0].sku, item.price, item.tags, item.unit_price, {after}'),
        ("CONFLICT", "input.jsonSchema", f"The webhook ({second}) uses item.price, {after}"),
    ]  # fmt: skip
    await api.do("DeclareModel", input={**less, "force": True})
    # Fields that were already missing do not count as removed.
    await api.do("DeclareModel", input={**less, "jsonSchema": {**less["jsonSchema"], "additionalProperties": False}})


async def test_concurrent_declarations_all_succeed(api: Api) -> None:
    labels = [f"Part {n}" for n in range(8)]
    made = await asyncio.gather(*(api.do("DeclareModel", input={**PART, "label": label}) for label in labels))
    assert [m["model"]["label"] for m in made] == labels
    (stored,) = (await contents())["DeclaredModel"]
    assert stored["label"] in labels


async def test_a_concurrent_webhook_and_declaration_stay_consistent(api: Api) -> None:
    """In either order, no webhook ends up with a field that its model does not have."""
    await api.do("DeclareModel", input=PART)
    less = {**PART, "jsonSchema": {"type": "object", "properties": {"id": {"type": "string"}}}, "sample": {}}
    hooks = [api.ask("CreateWebhook", input={**HOOK, "bodyTemplate": "{{ item.price }}"}) for _ in range(3)]
    *made, declared = await asyncio.gather(*hooks, api.ask("DeclareModel", input=less))
    created = [m for m in made if not m["errors"]]
    assert (declared["errors"] == []) == (created == [])


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


VALID_NAMES = "Enter at most 100 characters from a-z, 0-9 and _, starting with a letter, such as spare_part."
UNDECLARABLE: list[tuple[dict[str, Any], list[tuple[str, str, str]]]] = [
    ({"name": ""}, [("INVALID", "name", f"name is ''. {VALID_NAMES}")]),
    ({"name": "Part"}, [("INVALID", "name", f"name is 'Part'. {VALID_NAMES}")]),
    ({"name": "x" * 101}, [("INVALID", "name", f"name is '{'x' * 101}'. {VALID_NAMES}")]),
    ({"name": "part\n"}, [("INVALID", "name", f"name is 'part\\n'. {VALID_NAMES}")]),
    ({"name": "lead"},
     [("CONFLICT", "name", "The model lead is tracked in code and cannot be declared. Choose another name.")]),
    ({"name": "evt_01h455vb4pex5vsknk084sn02q"},
     [("INVALID", "name",
       "name is evt_01h455vb4pex5vsknk084sn02q, which is an id of another object. Choose another name.")]),
    ({"name": "site_settings"},
     [("INVALID", "name", "name is site_settings, which is an id of another object. Choose another name.")]),
    ({"label": " "}, [("INVALID", "label", "label is empty. Enter a value.")]),
    ({"label": "x" * 201}, [("TOO_LARGE", "label", "label has 201 characters. Enter at most 200.")]),
    ({"label": "a\nb"}, [("INVALID", "label",
     "label contains a control or lone surrogate character. Enter one line of text.")]),
    ({"description": "x" * 10_001}, [("TOO_LARGE", "description",
     "description has 10,001 characters. Enter at most 10,000.")]),
    ({"description": "\0"}, [("INVALID", "description",
     "description contains a NUL or lone surrogate character. Remove it.")]),
    ({"jsonSchema": True}, [("INVALID", "jsonSchema",
     'jsonSchema must be an object, such as {"type": "object", "properties": {…}}.')]),
    ({"jsonSchema": {"type": "string"}}, [("INVALID", "jsonSchema.type",
     'jsonSchema.type must be "object", because published items are objects.')]),
    ({"jsonSchema": {"type": "object", "properties": {"unit_price": {"$ref": "http://127.0.0.1:9/x"}}}},
     [("INVALID", 'jsonSchema.properties.unit_price["$ref"]',
       'jsonSchema.properties.unit_price["$ref"] must start with #, because nothing is fetched. '
       "Copy the subschema into $defs.")]),
    ({"jsonSchema": {"type": "object", "description": "x" * 262_144}}, [("TOO_LARGE", "jsonSchema",
     "jsonSchema has 262,178 bytes; 262,144 are allowed.")]),
    ({"sample": {"id": 1, "lines": [{"sku": "a", "colour": 1}]}},
     [("INVALID", "sample.price", "sample.price is missing."),
      ("INVALID", "sample.id", "sample.id must be a string, not a number."),
      ("INVALID", "sample.lines[0].colour", "sample.lines[0].colour is not a field of this model.")]),
    ({"sample": "x"}, [("INVALID", "sample", "sample must be an object, not a string.")]),
    ({"sample": {"id": "x" * 262_144, "price": 1}},
     [("TOO_LARGE", "sample", "sample has 262,163 bytes. Enter at most 262,144.")]),
    ({"name": "", "label": "", "jsonSchema": {}},
     [("INVALID", "name", f"name is ''. {VALID_NAMES}"), ("INVALID", "label", "label is empty. Enter a value."),
      ("INVALID", "jsonSchema.type", 'jsonSchema.type must be "object", because published items are objects.')]),
]  # fmt: skip


@pytest.mark.parametrize(("given", "expected"), UNDECLARABLE)
async def test_an_invalid_declaration_is_refused(
    api: Api, given: dict[str, Any], expected: list[tuple[str, str, str]]
) -> None:
    refusals = await api.refusals("DeclareModel", input={**PART, **given})
    assert sorted(refusals, key=str) == sorted([(code, f"input.{at}", text) for code, at, text in expected], key=str)


async def test_the_number_of_declared_models_is_limited(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(declared_models, "MAX_MODELS", 1)
    await api.do("DeclareModel", input=PART)
    await api.do("DeclareModel", input={**PART, "label": "Again"})
    assert await api.refusals("DeclareModel", input={**PART, "name": "other"}) == [
        ("TOO_LARGE", "input.name", "The limit of 1 declared models is reached. Redeclare an existing model instead.")
    ]


async def test_a_tracked_model_replaces_a_declared_one(api: Api) -> None:
    """The model was declared first, then tracked in code under the same name."""
    await api.do("DeclareModel", input=PART)
    (row,) = await DeclaredModel.filter(name="part").values()
    await DeclaredModel.create(**{**row, "name": "lead"})
    (shown,) = [m for m in await api.ask("WebhookModels") if m["name"] == "lead"]
    assert shown["label"] == "Lead: callback request"
    assert [code for code, _, _ in await refused(api, change(model="lead"))] == ["CONFLICT"]
