"""The cost of operations: objects, multiplied by the sizes of their pages and lists."""

from typing import Any

import pytest
from graphql import FragmentDefinitionNode, OperationDefinitionNode, parse, validate

from ringback.graphql_api.execution.query_cost import LIST_SIZE, CostEstimator
from ringback.graphql_api.fields.relay import MAX_PAGE
from ringback.graphql_api.schema.build import schema
from tests.contract import served
from tests.support.api import Api

ID = '"inb_01h455vb4pex5vsknk084sn02q"'


def cost(text: str, **variables: Any) -> int:
    document = parse(text)
    assert validate(schema._schema, document) == []
    (operation,) = [d for d in document.definitions if isinstance(d, OperationDefinitionNode)]
    return CostEstimator(schema._schema, document).estimate(operation).total(variables)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{ __typename }", 0),
        ("{ viewer { token { id name } } }", 2),
        # The connection and each object in it. pageInfo counts as an object of each node.
        ("{ webhooks(first: 10) { nodes { id } } }", 1 + 10),
        ("{ webhooks(first: 10) { pageInfo { hasNextPage } } }", 1 + 10),
        ("{ webhooks { nodes { id } } }", 1 + 20),
        ("{ webhooks(first: 10) { edges { node { id } } } }", 1 + 10 * 2),
        ("{ webhooks(first: 10) { nodes { id } edges { node { id } } } }", 1 + 10 * 3),
        ("{ webhooks(first: 10) { nodes { warnings again: warnings } } }", 1 + 10 * (1 + 2 * 10)),
        ("{ inboxes(first: 10) { nodes { requests(first: 5) { nodes { id } } } } }", 1 + 10 * (1 + 1 + 5)),
        ("{ events(first: 10) { nodes { attempts { id } } } }", 1 + 10 * (1 + LIST_SIZE)),
        ("{ events(first: 10) { nodes { attempts { event { id } } } } }", 1 + 10 * (1 + LIST_SIZE * 2)),
        ("{ a: webhooks(first: 10) { nodes { id } } b: webhooks(first: 10) { nodes { id } } }", 2 * (1 + 10)),
        (f"{{ node(id: {ID}) {{ id ... on Inbox {{ requests(first: 7) {{ nodes {{ id }} }} }} }} }}", 1 + 1 + 7),
        ("{ ... on Query { webhooks(first: 10) { ... on WebhookConnection { nodes { id } } } } }", 1 + 10),
        ("{ ...F ...F } fragment F on Query { webhooks(first: 10) { ...G } } "
         "fragment G on WebhookConnection { nodes { id } }", 2 * (1 + 10)),
        ("{ __schema { types { fields { name } } } __type(name: \"Query\") { name } }", 0),
        ("mutation { deleteWebhook(id: \"x\") { errors { message } } }", 2),
    ],
)  # fmt: skip
def test_costs(text: str, expected: int) -> None:
    assert cost(text) == expected


PAGE = "webhooks(first: $n) { nodes { id } }"


@pytest.mark.parametrize(
    ("text", "variables", "expected"),
    [
        (f"query($n: Int!) {{ {PAGE} }}", {"n": 30}, 1 + 30),
        (f"query($n: Int! = 40) {{ {PAGE} }}", {"n": 40}, 1 + 40),
        (f"query($n: Int = 40) {{ {PAGE} }}", {}, 1 + 20),
        (f"query($n: Int = 40) {{ {PAGE} }}", {"n": None}, 1 + 1),
        # The connection itself refuses page sizes out of range.
        (f"query($n: Int!) {{ {PAGE} }}", {"n": 10**9}, 1 + MAX_PAGE),
        (f"query($n: Int!) {{ {PAGE} }}", {"n": -5}, 1 + 1),
        ("{ webhooks(first: 1000000000) { nodes { id } } }", {}, 1 + MAX_PAGE),
        ("{ webhooks(first: -3) { nodes { id } } }", {}, 1 + 1),
        ("query($n: Int!) { inboxes(first: $n) { nodes { requests(first: $n) { nodes { id } } } } }", {"n": 10},
         1 + 10 * (1 + 1 + 10)),
    ],
)  # fmt: skip
def test_a_page_size_in_a_variable(text: str, variables: dict[str, Any], expected: int) -> None:
    assert cost(text, **variables) == expected


def test_each_fragment_is_estimated_once() -> None:
    levels = 100
    parts = [f"fragment F{n} on Query {{ ...F{n + 1} ...F{n + 1} }}" for n in range(levels)]
    text = f"{{ ...F0 }} {' '.join(parts)} fragment F{levels} on Query {{ webhooks(first: 10) {{ nodes {{ id }} }} }}"
    document = parse(text)
    (operation, *_) = document.definitions
    assert isinstance(operation, OperationDefinitionNode)
    assert CostEstimator(schema._schema, document).estimate(operation).total({}) == 2**levels * 11


def test_operations_share_the_costs_of_fragments() -> None:
    document = parse("query A { ...F } query B { ...F } fragment F on Query { webhooks(first: $n) { nodes { id } } }")
    a, b, fragment = document.definitions
    assert isinstance(a, OperationDefinitionNode)
    assert isinstance(b, OperationDefinitionNode)
    assert isinstance(fragment, FragmentDefinitionNode)
    costs = CostEstimator(schema._schema, document)
    assert costs.estimate(a).parts[0].cost is costs.estimate(b).parts[0].cost


@pytest.mark.parametrize("name", served())
def test_the_contract_is_far_below_the_limit(name: str) -> None:
    document = parse(served()[name])
    (operation,) = [d for d in document.definitions if isinstance(d, OperationDefinitionNode)]
    assert CostEstimator(schema._schema, document).estimate(operation).total({"first": 100}) <= 5_000


async def test_an_operation_over_the_cost_limit_is_refused(api: Api) -> None:
    text = "query($n: Int!) { inboxes(first: 100) { nodes { requests(first: $n) { nodes { id } } } } }"
    assert await api.ask(text, n=97) == {"nodes": []}
    assert await api.error(text, n=98) == (
        "LIMIT_EXCEEDED",
        "The operation may read 10,001 objects; 10,000 are allowed (RINGBACK_API_MAX_COST). Ask for smaller pages.",
    )
