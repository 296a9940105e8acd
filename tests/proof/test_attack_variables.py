"""Attacks with variables: values that take many times their size in memory."""

import json

import pytest

from tests.support.bystander import measure_attack
from tests.support.flood import create_tokens, flood
from tests.support.program import Program

pytestmark = pytest.mark.alone

PUBLISH = "mutation ($input: PublishChangesInput!) { publishChanges(input: $input) { errors { message } } }"


@pytest.mark.parametrize(("lists", "statuses"), [(330_000, {413}), (15_000, {200})], ids=["refused", "allowed"])
def test_nested_lists_in_variables(tmp_path_factory: pytest.TempPathFactory, lists: int, statuses: set[int]) -> None:
    query = json.dumps(PUBLISH)
    body = f'{{"query": {query}, "variables": {{"input": [{"[]," * lists}[]]}}}}'.encode()

    with Program(tmp_path_factory.mktemp("variables"), "api") as program:
        tokens = create_tokens(program, 1)
        with measure_attack(program) as cost:
            sent = flood(program, tokens, lambda _: body, connections=4, seconds=4.0)

        cost.check()
        assert {answer.status for answer in sent.answers} == statuses
        assert "Traceback" not in program.log()


def test_dense_variables_of_many_clients(tmp_path_factory: pytest.TempPathFactory) -> None:
    item = {"id": "1", "numbers": list(range(10, 40_000))}
    change = {"model": "none", "action": "UPDATED", "objectId": "1", "item": item}
    variables = {"input": {"changes": [change, change, change]}}
    body = json.dumps({"query": PUBLISH, "variables": variables}, separators=(",", ":")).encode()

    with Program(tmp_path_factory.mktemp("dense"), "api") as program:
        tokens = create_tokens(program, 1)
        with measure_attack(program) as cost:
            sent = flood(program, tokens, lambda _: body, connections=30, seconds=4.0)

        cost.check()
        assert {answer.status for answer in sent.answers} == {200}
        assert "Traceback" not in program.log()
