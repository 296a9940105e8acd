"""The variables on which a subscription's responses depend."""

import pytest
from graphql import parse, separate_operations

from ringback.graphql_api.execution.documents import Documents
from ringback.graphql_api.execution.operation_limits import OperationLimits
from ringback.graphql_api.execution.variable_usage import VariableUsage
from ringback.graphql_api.schema.build import schema


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        ("deliveryLog(filter: $f, after: $a) { cursor }", set()),
        ("deliveryLog(filter: {models: [$a]}) { message }", set()),
        ("log: deliveryLog(after: $a) { message @include(if: $x) }", {"x"}),
        ("deliveryLog(after: $a) { event { id @skip(if: $x) } webhook @include(if: $y) { id } }", {"x", "y"}),
        ("deliveryLog(after: $a) { message(in: [{deep: $x}]) }", {"x"}),
        ("deliveryLog(after: $a) @include(if: $a) { cursor }", {"a"}),
        ("... @include(if: $y) { deliveryLog(after: $a) { cursor @skip(if: $x) } }", {"x", "y"}),
        ("...Root @include(if: $y)", {"y", "z"}),
        ("deliveryLog(after: $a) { ...Row @include(if: $y) }", {"x", "y"}),
        ("deliveryLog(after: $a) { event { change { events { ...Deep } } } }", {"x"}),
        ("__typename", set()),
    ],
)  # fmt: skip
def test_variables_below_the_root_field(selection: str, expected: set[str]) -> None:
    document = parse(
        "subscription { " + selection + " }\n"
        "fragment Root on Subscription { deliveryLog(after: $a) { cursor @skip(if: $z) } }\n"
        "fragment Row on LogEntry { ...Deep }\n"
        "fragment Deep on LogEntry { message @include(if: $x) }"
    )
    assert VariableUsage(schema._schema).below_root(separate_operations(document)[""]) == expected


async def test_an_operation_has_its_response_variables() -> None:
    documents = Documents(schema._schema, OperationLimits())
    text = "($a: String, $x: Boolean!) { deliveryLog(after: $a) { message @include(if: $x) } }"
    assert (await documents.operation("subscription" + text, None)).response_variables == {"x"}
    documents.close()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("query ($x: Boolean!) { webhooks(first: 1) { nodes { id @include(if: $x) } } }", True),
        ("query ($x: Boolean!) { ...A } fragment A on Query { webhooks { nodes { id @skip(if: $x) } } }", True),
        ("query ($x: Int!) { webhooks(first: $x) { nodes { id @skip(if: true) } } }", False),
    ],
)
def test_variables_of_directives_decide_what_is_selected(text: str, expected: bool) -> None:
    assert VariableUsage(schema._schema).decides_selections(parse(text)) is expected
