"""Variables: what is over a limit is refused before it is coerced, and none holds the loop up."""

from typing import Any, cast

import pytest
from graphql import GraphQLInputObjectType

from ringback.graphql_api.errors import MAX_MESSAGE
from ringback.graphql_api.execution.engine import ExecutionResponse
from ringback.graphql_api.execution.variable_limits import MAX_ENTRIES
from ringback.graphql_api.schema.build import schema
from ringback.models.services.customer_orders import MAX_ITEMS
from ringback.models.services.publishing import MAX_CHANGES
from tests.support.api import Api
from tests.support.lag import share_of_allowed

LIST = "query($f: WebhookFilter) { webhooks(filter: $f) { nodes { id } } }"
NAMES = "query($names: [String!]!) { webhooks(filter: {models: $names}) { nodes { id } } }"
HOOK = "mutation($i: CreateWebhookInput!) { createWebhook(input: $i) { errors { code } } }"
ORDER = "mutation($i: CreateCustomerOrderInput!) { createCustomerOrder(input: $i) { errors { code } } }"
FIRE = "mutation($i: TestFireWebhookInput!) { testFireWebhook(input: $i) { errors { code } } }"
BY_ID = "query($id: ID!) { webhook(id: $id) { id } }"
ITEM = {"brand": "b", "article": "a", "name": "n", "quantity": 1, "price": "1"}


def order(items: Any) -> dict[str, Any]:
    return {"number": "1", "customer": {"name": "n", "phone": "1"}, "items": items}


def hook(**given: Any) -> dict[str, Any]:
    return {"model": "nothing", "actions": ["CREATED"], "url": "https://hooks.example/", **given}


def fire(item: Any) -> dict[str, Any]:
    return {"webhookId": "x", "item": item}


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {"a": [value]}
    return value


@pytest.mark.parametrize(
    ("text", "variables"),
    [
        (NAMES, {"names": ["x"] * (MAX_ENTRIES + 1)}),
        (LIST, {"f": {"models": ["x"] * 500_000}}),
        (LIST, {"f": {f"f{n}": n for n in range(60_000)}}),
        (ORDER, {"i": order([ITEM] * 1_700)}),
        (HOOK, {"i": hook(headers=[{"name": "a", "value": "b"}] * 3_000, retryDelaysSeconds=[1] * 1_000)}),
    ],
)
async def test_more_entries_than_any_argument_takes_are_refused(api: Api, text: str, variables: dict[str, Any]) -> None:
    message = "The variables hold over 10,000 list entries and fields, a fixed limit. Send fewer in one request."

    assert await api.error(text, **variables) == ("LIMIT_EXCEEDED", message)


async def test_lists_at_their_limit_are_taken(api: Api) -> None:
    (error,) = (await api.execute(NAMES, names=["x"] * MAX_ENTRIES)).errors
    assert error.message == "filter.models has 10,000 entries. Enter at most 1,000."  # said by the resolver
    answer = await api.execute(ORDER, i=order([ITEM] * 1_000))
    assert answer.errors == ()
    # A value that is no list stands for a list of it, and is looked at as one.
    assert (await api.execute(NAMES, names="lead")).errors == ()
    assert (await api.execute(ORDER, i=order({**ITEM, "quantity": 0}))).errors == ()


@pytest.mark.parametrize(("inputs", "longest"), [("OrderItemInput", MAX_ITEMS), ("ChangeInput", MAX_CHANGES)])
def test_the_longest_lists_of_objects_are_within_the_limit(inputs: str, longest: int) -> None:
    input_type = cast(GraphQLInputObjectType, schema._schema.type_map[inputs])

    assert longest * (1 + len(input_type.fields)) < MAX_ENTRIES


@pytest.mark.parametrize(
    ("text", "variables", "message"),
    [
        (LIST, {"f": {"f" * 1_000_000: 1}}, "Variable '$f' has invalid value: Expected value of type 'WebhookFilter'"),
        (HOOK, {"i": hook(actions=["X" * 1_000_000])}, "Variable '$i' has invalid value at .actions[0]: Value 'XXX"),
        (HOOK, {"i": hook(method="X" * 1_000_000)}, "Variable '$i' has invalid value at .method: Value 'XXX"),
    ],
)
async def test_long_names_are_not_sent_back_whole(api: Api, text: str, variables: dict[str, Any], message: str) -> None:
    code, found = await api.error(text, **variables)

    assert (code, found[: len(message)]) == ("BAD_USER_INPUT", message)
    assert len(found) <= MAX_MESSAGE + 1


async def test_a_short_wrong_name_is_answered_with_a_near_one(api: Api) -> None:
    code, message = await api.error(LIST, f={"model": ["x"]})
    assert code == "BAD_USER_INPUT"
    assert "Did you mean 'models'" in message


async def test_errors_of_variables_are_few(api: Api) -> None:
    errors = (await api.execute(NAMES, names=[1] * 9_000)).errors
    assert len(errors) == 21
    assert errors[-1].message == "Too many errors processing variables, error limit reached. Execution aborted."


HEAVY: dict[str, tuple[str, dict[str, Any]]] = {
    "whole numbers": (LIST, {"f": {"models": [1] * 500_000}}),
    "texts": (LIST, {"f": {"models": ["x"] * MAX_ENTRIES}}),
    "objects": (ORDER, {"i": order([{}] * 300_000)}),
    "lists in lists": (LIST, {"f": {"models": nested(400)}}),
    "unknown variables": (LIST, {str(n): n for n in range(60_000)}),
    "a list for a number": ("query($n: Int!) { webhooks(first: $n) { nodes { id } } }", {"n": [1] * 500_000}),
    "a text for a number": ("query($n: Int!) { webhooks(first: $n) { nodes { id } } }", {"n": "x" * 1_000_000}),
    "an object for an id": (
        "query($id: ID!) { webhook(id: $id) { id } }",
        {"id": dict.fromkeys(map(str, range(80_000)))},
    ),
    "a long id": ("query($id: ID!) { webhook(id: $id) { id } }", {"id": "x" * 1_000_000}),
    "1,400 objects": (ORDER, {"i": order([ITEM] * 1_400)}),
    "a long enum": (HOOK, {"i": hook(method="X" * 500_000)}),
    "a long field": (LIST, {"f": {"f" * 1_000_000: 1}}),
    "JSON of numbers": (FIRE, {"i": fire({"a": [1] * 300_000})}),
    "JSON of names": (FIRE, {"i": fire({str(n): n for n in range(90_000)})}),
    "JSON of texts": (FIRE, {"i": fire({"a": [""] * 340_000})}),
    "JSON of fractions": (FIRE, {"i": fire({"a": [0.5] * 250_000})}),
    "JSON of lists": (FIRE, {"i": fire({"a": [[]] * 340_000})}),
    "JSON of mixed values": (FIRE, {"i": fire({"a": [1, "x", None, True, 0.5, {}, []] * 40_000})}),
    "JSON of one text": (FIRE, {"i": fire({"a": "я" * 500_000})}),
    "deep JSON": (FIRE, {"i": fire(nested(400))}),
}


@pytest.mark.parametrize("name", HEAVY)
@pytest.mark.measures_cpu
async def test_heavy_variables_hold_nothing_up(api: Api, name: str) -> None:
    text, variables = HEAVY[name]
    answer: ExecutionResponse = await api.execute(text)  # its document is known from now on

    async def ask() -> None:
        nonlocal answer
        answer = await api.execute(text, **variables)

    assert await share_of_allowed(ask) < 1
    assert {(error.extensions or {})["code"] for error in answer.errors} <= {"BAD_USER_INPUT", "LIMIT_EXCEEDED"}
    assert len(answer.errors) <= 21
    assert all(len(error.message) <= 1_001 for error in answer.errors)
