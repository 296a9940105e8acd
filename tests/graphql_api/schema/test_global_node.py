"""`node(id:)` finds every kind of object and refuses malformed ids."""

import re
from typing import Any

import pytest
from graphql import GraphQLInterfaceType, GraphQLObjectType

from ringback.graphql_api.schema.build import schema
from ringback.graphql_api.schema.global_node import KINDS
from ringback.models.ids import Prefix, encode, new_key
from tests.support import builders
from tests.support.api import Api, one_of_each
from tests.support.statements import counted


async def test_every_kind_of_object_is_found_by_its_id(api: Api) -> None:
    ids = await one_of_each(api)
    for kind, key in ids.items():
        assert await api.ask("Node", id=key) == {"__typename": kind, "id": key}
    interface = schema._schema.type_map["Node"]
    assert isinstance(interface, GraphQLInterfaceType)
    assert {type_.name for type_ in schema._schema.get_possible_types(interface)} == ids.keys()


async def test_the_fields_of_a_node_can_be_selected_by_its_type(api: Api) -> None:
    ids = await one_of_each(api)
    document = """
    query ($id: ID!) { node(id: $id) { id ... on Event { status webhook { id } } ... on Lead { name } } }
    """
    assert await api.ask(document, id=ids["Event"]) == {
        "id": ids["Event"], "status": "PENDING", "webhook": {"id": ids["Webhook"]},
    }  # fmt: skip
    assert await api.ask(document, id=ids["Lead"]) == {"id": ids["Lead"], "name": "Ada"}
    assert await api.ask(document, id=ids["Inbox"]) == {"id": ids["Inbox"]}


async def test_nodes_of_one_kind_are_read_in_one_statement(api: Api) -> None:
    ids = [encode(Prefix.WEBHOOK, (await builders.webhook()).id) for _ in range(20)]
    for number in (2, 20):
        fields = " ".join(f'n{index}: node(id: "{key}") {{ id }}' for index, key in enumerate(ids[:number]))
        with counted() as statements:
            answer = await api.execute(f"{{ {fields} }}")
        assert answer.data == {f"n{index}": {"id": key} for index, key in enumerate(ids[:number])}
        assert len(statements) == 1, statements


def test_every_type_with_an_id_is_a_node() -> None:
    types = [t for t in schema._schema.type_map.values() if isinstance(t, GraphQLObjectType) and "id" in t.fields]
    assert [t.name for t in types if "Node" not in {i.name for i in t.interfaces}] == []


@pytest.mark.parametrize("prefix", list(Prefix))
async def test_an_unknown_id_gives_null(api: Api, prefix: Prefix) -> None:
    assert await api.ask("Node", id=encode(prefix, new_key())) is None
    assert prefix in KINDS


@pytest.mark.parametrize("name", ["no_such_model", "evt", "job_01h455vb4pex5vsknk084sn02q"])
async def test_an_unknown_model_name_gives_null(api: Api, name: str) -> None:
    assert await api.ask("Node", id=name) is None


@pytest.mark.parametrize(
    "id", ["", "_", "Lead", "1", "not-an-id", "evt_", "evt_1", "EVT_01h455vb4pex5vsknk084sn02q", "x" * 5_000]
)
async def test_a_malformed_id_is_refused(api: Api, id: str) -> None:
    with counted() as statements:
        code, message = await api.error("Node", id=id)
    assert code == "BAD_USER_INPUT"
    assert message.startswith("id: ")
    assert len(message) < 250
    # It could be the name of a declared model.
    assert [s for s in statements if 'FROM "ringback_declared_model"' not in s] == []


async def test_a_declared_model_is_a_node(api: Api) -> None:
    for name in ("part", "lead_time"):
        await api.do(
            "DeclareModel", input={"name": name, "label": "Part", "jsonSchema": {"type": "object"}, "sample": {}}
        )
        assert await api.ask("Node", id=name) == {"__typename": "WebhookModel", "id": name}
    with counted() as statements:
        await api.ask("Node", id=encode(Prefix.LEAD, new_key()))
    assert len(statements) == 1


async def test_a_revoked_token_is_not_found(api: Api) -> None:
    made = await api.do("CreateApiToken", input={"name": "gone", "role": "ADMIN"})
    node: Any = await api.ask("Node", id=made["token"]["id"])
    assert re.fullmatch(r"tok_[0-9a-z]{26}", node["id"])
    await api.do("RevokeApiToken", id=made["token"]["id"])
    assert await api.ask("Node", id=made["token"]["id"]) is None


async def test_a_declared_model_is_found_by_its_name(api: Api) -> None:
    declared = {"name": "spare_part", "label": "Spare part", "jsonSchema": {"type": "object"}, "sample": {}}
    assert await api.ask("Node", id="spare_part") is None
    await api.do("DeclareModel", input=declared)
    assert await api.ask("Node", id="spare_part") == {"__typename": "WebhookModel", "id": "spare_part"}
    document = "query ($id: ID!) { node(id: $id) { ... on WebhookModel { label } } }"
    assert await api.ask(document, id="spare_part") == {"label": "Spare part"}
