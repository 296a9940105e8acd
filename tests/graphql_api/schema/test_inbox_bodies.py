"""Bodies of inbox requests: read only if they are selected, and encoded in turns with other work."""

import asyncio
import base64
import gc

import pytest
from strawberry.types import get_object_definition

from ringback.graphql_api.context import dataloaders
from ringback.graphql_api.errors import ApiError
from ringback.graphql_api.fields.loaded_field import find_loaded_field
from ringback.graphql_api.schema.delivery_types import InboxRequest as InboxRequestNode
from ringback.models.inbox import REQUEST_WITHOUT_BODY, Inbox, InboxRequest
from ringback.models.services.inboxes import Received
from tests.support.api import Api
from tests.support.statements import counted

#: Bytes of a body, and requests whose bodies exceed the budget of an operation together.
BODY_BYTES, MANY = 1_000_000, 20


async def receive(api: Api, *bodies: bytes) -> str:
    """Let a new inbox receive a request with each body. Return the id of the inbox."""
    inbox_id = (await api.do("CreateInbox", input={}))["inbox"]["id"]
    token = (await Inbox.get()).token
    for body in bodies:
        assert await api.services.inboxes.receive(token, Received("POST", "/", (), body, None)) is not None
    return str(inbox_id)


@pytest.mark.every_database
async def test_large_bodies_that_are_not_selected_do_not_count(api: Api) -> None:
    inbox_id = await receive(api, *[b"x" * BODY_BYTES] * MANY)

    query = f'{{ inbox(id: "{inbox_id}") {{ requests(first: {MANY}) {{ nodes {{ id url }} }} }} }}'
    inbox = await api.ask(query)

    assert len(inbox["requests"]["nodes"]) == MANY
    (error,) = (await api.execute(query.replace("id url", "body"))).errors
    assert error.extensions is not None
    assert error.extensions["limit"] == "response_bytes"


async def test_only_the_selected_bodies_are_read(api: Api) -> None:
    inbox_id = await receive(api, b"text", b"\xff")
    query = f'{{ inbox(id: "{inbox_id}") {{ requests {{ nodes {{ FIELDS }} }} }} }}'

    with counted() as statements:
        inbox = await api.ask(query.replace("FIELDS", "id url headers { name }"))
        await api.ask(f'{{ node(id: "{inbox["requests"]["nodes"][0]["id"]}") {{ id }} }}')
    inbox = await api.ask(query.replace("FIELDS", "body bodyBase64"))

    assert len(statements) == 3
    assert [statement for statement in statements if '"body"' in statement] == []
    assert inbox["requests"]["nodes"] == [
        {"body": None, "bodyBase64": "/w=="},
        {"body": "text", "bodyBase64": "dGV4dA=="},
    ]


async def test_the_event_loop_gets_turns_while_bodies_are_encoded(api: Api) -> None:
    await receive(api, *[b"x" * BODY_BYTES] * MANY)
    requests = await InboxRequest.all()
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    counting = asyncio.create_task(count_turns())
    encoded = await dataloaders.base64_body_of_request(requests)
    counting.cancel()

    assert encoded == [base64.b64encode(b"x" * BODY_BYTES).decode()] * MANY
    assert turns > 0


async def test_bodies_are_freed_before_the_garbage_collector_runs(api: Api) -> None:
    inbox_id = await receive(api, b"text")
    query = f'{{ inbox(id: "{inbox_id}") {{ requests {{ nodes {{ body bodyBase64 }} }} }} }}'
    gc.collect()
    gc.disable()
    try:
        await api.ask(query)
        rows = [row for row in gc.get_objects() if isinstance(row, InboxRequest)]
    finally:
        gc.enable()

    assert rows == []


@pytest.mark.parametrize("name", ["body", "body_base64"])
async def test_the_body_of_a_request_that_is_deleted_meanwhile_is_an_error(api: Api, name: str) -> None:
    await receive(api, b"text")
    (row,) = await InboxRequest.all().only(*REQUEST_WITHOUT_BODY)
    await InboxRequest.all().delete()
    fields = {field.python_name: field for field in get_object_definition(InboxRequestNode, strict=True).fields}
    loaded = find_loaded_field(fields[name])
    assert loaded is not None

    with pytest.raises(ApiError, match="The request was deleted while it was read"):
        await loaded.fetch(InboxRequestNode.of(row), dataloaders.Loaders())
