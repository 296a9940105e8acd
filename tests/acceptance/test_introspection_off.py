"""The started program with RINGBACK_API_INTROSPECTION=false: no response suggests a name of the schema."""

from collections.abc import Iterator
from typing import Any

import pytest
from graphql import get_introspection_query

from tests.support.program import Program

SWITCHED_OFF = (
    "Introspection is switched off on this server, so clients get no documentation and no completion. "
    "Operations run as usual. The operator can set RINGBACK_API_INTROSPECTION=true."
)
CREATE = "mutation ($input: CreateWebhookInput!) { createWebhook(input: $input) { errors { message } } }"
WEBHOOK = {"name": "n", "model": "lead", "actions": ["CREATED"], "url": "https://hooks.example"}


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """A program without introspection."""
    with Program(tmp_path_factory.mktemp("closed") / "program", env={"RINGBACK_API_INTROSPECTION": "false"}) as program:
        yield program


@pytest.mark.parametrize(
    "document",
    [
        get_introspection_query(),
        "{ __schema { queryType { name } } }",
        'query Q { __typename alias: __type(name: "Lead") { name } }',
        "{ ...F } fragment F on Query { ... on Query { __schema { types { name } } } }",
        "query Q($on: Boolean = false) { __schema @include(if: $on) { types { name } } __typename }",
        'mutation { __type(name: "Lead") { name } }',
        'subscription { __type(name: "Lead") { name } }',
        'query A { __typename } query B { __type(name: "Lead") { name } }',
        "{ leads(first: 1) { nodes { __schema { types { name } } } } }",
    ],
)
def test_no_document_reads_the_schema(closed: Program, document: str) -> None:
    status, answer = closed.post({"query": document, "operationName": None})

    assert (status, messages(answer)) == (200, [SWITCHED_OFF])
    assert answer["errors"][0]["extensions"] == {"code": "GRAPHQL_VALIDATION_FAILED"}


@pytest.mark.parametrize(
    ("document", "variables", "message"),
    [
        ("{ leds { nodes { id } } }", {}, "Cannot query field 'leds' on type 'Query'."),
        ("{ node(id: 1) { nam } }", {}, "Cannot query field 'nam' on type 'Node'."),
        ("{ leads(frst: 1) { nodes { id } } }", {}, "Unknown argument 'frst' on field 'Query.leads'."),
        ("query ($a: Sting) { node(id: $a) { id } }", {}, "Unknown type 'Sting'."),
        ("{ node(id: 1) { ... on Leed { id } } }", {}, "Unknown type 'Leed'."),
        ("{ node(id: 1) @skp(if: true) { id } }", {}, "Unknown directive '@skp'."),
        ("{ node(id: 1) @skip(iff: true) { id } }", {}, "Unknown argument 'iff' on directive '@skip'."),
        ("{ events(filter: {statuses: [FAILD]}) { nodes { id } } }", {}, "Value 'FAILD' does not exist in"),
        (CREATE, {"input": {**WEBHOOK, "actions": ["CREATD"]}}, "Value 'CREATD' does not exist in 'Action' enum."),
        (CREATE, {"input": {**WEBHOOK, "naem": "n"}}, "not to include unknown field 'naem'"),
    ],
)
def test_no_error_suggests_a_name_of_the_schema(
    closed: Program, document: str, variables: dict[str, Any], message: str
) -> None:
    status, answer = closed.post({"query": document, "variables": variables})

    assert status == 200
    assert any(message in text for text in messages(answer)), answer
    assert "Did you mean" not in str(answer)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("{ node { id } }", "Argument 'Query.node(id:)' of type 'ID!' is required, but it was not provided."),
        ("mutation { createInbox(input: {responses: [{}]}) }", "must have a selection of subfields"),
    ],
)
def test_errors_name_what_a_document_lacks(closed: Program, document: str, message: str) -> None:
    _, answer = closed.post({"query": document})

    assert any(message in text for text in messages(answer)), answer


def test_operations_run_as_usual(closed: Program) -> None:
    assert closed.query("{ __typename leads(first: 1) { __typename nodes { id __typename } } }") == {
        "__typename": "Query",
        "leads": {"__typename": "LeadConnection", "nodes": []},
    }
    # Errors of input name what the caller may choose from: models, fields and filters are not the schema.
    refused = closed.query(CREATE, {"input": {**WEBHOOK, "model": "leed"}})
    assert refused["createWebhook"]["errors"] == [{"message": "There is no model 'leed'. Did you mean lead?"}]


def test_by_default_clients_read_the_schema_and_get_suggestions(program: Program) -> None:
    assert program.query("{ __schema { queryType { name } } }") == {"__schema": {"queryType": {"name": "Query"}}}
    _, answer = program.post({"query": "{ leds { nodes { id } } }"})
    assert messages(answer) == ["Cannot query field 'leds' on type 'Query'. Did you mean 'leads' or 'lead'?"]


def messages(answer: Any) -> list[str]:
    return [error["message"] for error in answer["errors"]]
