"""The limits of a started program, over HTTP: the defaults, and those of its settings."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from graphql import get_introspection_query

from ringback.graphql_api.execution.operation_limits import OperationLimits
from ringback.graphql_api.listener.config import limit_connections
from ringback.models.settings import Settings
from tests.support.hostile_documents import DOCUMENTS, many
from tests.support.program import Program

#: All limits, each different from its default.
CHOSEN: dict[str, Any] = {"body_bytes": 60_000, "tokens": 200, "depth": 15, "aliases": 2, "root_fields": 3, "cost": 100,
          "response_bytes": 1_048_576, "subscriptions_per_connection": 1, "subscriptions_per_token": 2,
          "subscription_tokens": 1_000}  # fmt: skip

#: Ends of the names of settings that are spelled otherwise than their limits.
SETTINGS = {"rootFields": "ROOT_FIELDS"}


@pytest.fixture(scope="module")
def default(migrated: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """Start the program with the default limits."""
    with Program(tmp_path_factory.mktemp("default"), "api", migrated=migrated) as program:
        yield program


@pytest.fixture(scope="module")
def strict(migrated: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """Start the program with the limits in CHOSEN."""
    env = {f"RINGBACK_API_MAX_{name.upper()}": str(value) for name, value in CHOSEN.items()}
    with Program(tmp_path_factory.mktemp("strict"), "api", env, migrated=migrated) as program:
        yield program


def over(program: Program, query: str, **variables: Any) -> tuple[str, int] | None:
    """Return the name and value of the limit that a request exceeds, or None if the response has data."""
    status, answer = program.post({"query": query, "variables": variables})
    assert status == 200
    if "errors" not in answer:
        assert answer["data"] is not None
        return None
    (error,) = answer["errors"]
    assert "data" not in answer
    assert error["extensions"]["code"] == "LIMIT_EXCEEDED"
    limit: str = error["extensions"]["limit"]
    assert f"(RINGBACK_API_MAX_{SETTINGS.get(limit, limit.upper())})" in error["message"]
    return limit, error["extensions"]["allowed"]


def sized(length: int) -> bytes:
    """Return a request of `length` bytes."""
    body = b'{"query": "{ __typename }"}'
    return body + b" " * (length - len(body))


def tokens(count: int) -> str:
    """Return a document of `count` tokens that fires nothing."""
    item = "1 " * (count - 23)
    return f'mutation {{ testFireWebhook(input: {{webhookId: "x", item: [{item}]}}) {{ errors {{ code }} }} }}'


def deep(levels: int) -> str:
    return "{ __type(name: \"Query\") { " + "ofType { " * (levels - 2) + "name" + " }" * levels  # fmt: skip


@pytest.mark.parametrize(("which", "limits"), [("default", OperationLimits()), ("strict", OperationLimits(**CHOSEN))])
def test_each_limit_allows_its_value_and_no_more(
    which: str, limits: OperationLimits, request: pytest.FixtureRequest
) -> None:
    program: Program = request.getfixturevalue(which)
    for length, status in ((limits.body_bytes, 200), (limits.body_bytes + 1, 413)):
        actual, answer = program.post(sized(length))
        assert actual == status, (length, answer)
    assert answer["errors"][0]["extensions"] == {"code": "TOO_LARGE"}
    assert over(program, tokens(limits.tokens)) is None
    assert over(program, tokens(limits.tokens + 1)) == ("tokens", limits.tokens)
    assert over(program, deep(limits.depth)) is None
    assert over(program, deep(limits.depth + 1)) == ("depth", limits.depth)
    aliased = "{ viewer { token { " + many(limits.aliases, "a%d: id") + " %s } } }"
    assert over(program, aliased % "") is None
    assert over(program, aliased % "b: id") == ("aliases", limits.aliases)
    roots = "{ " + "__typename " * (limits.root_fields - 1) + "viewer { token { id } } %s }"
    assert over(program, roots % "") is None
    assert over(program, roots % "__typename") == ("rootFields", limits.root_fields)


def test_the_cost_limit_allows_its_value_and_no_more(default: Program, strict: Program) -> None:
    page = "query($n: Int!) { inboxes(first: %d) { nodes { requests(first: $n) { nodes { id } } } } }"
    # 1 + 3 * (1 + 1 + 31) = 100
    assert over(strict, page % 3, n=31) is None
    assert over(strict, page % 3, n=32) == ("cost", 100)
    # 1 + 100 * (1 + 1 + 97) = 9,901
    assert over(default, page % 100, n=97) is None
    assert over(default, page % 100, n=98) == ("cost", 10_000)


def test_the_defaults_equal_those_of_the_settings() -> None:
    quarter = limit_connections(Settings()) // 4
    assert OperationLimits.of(Settings()) == OperationLimits(connections_per_token=quarter)
    values: dict[str, Any] = {f"api_max_{name}": value for name, value in CHOSEN.items()}
    chosen = Settings(**values)
    assert OperationLimits.of(chosen) == OperationLimits(**CHOSEN, connections_per_token=quarter)
    assert {f"api_max_{name}" for name in CHOSEN} == {name for name in Settings.model_fields if "api_max" in name}


@pytest.mark.parametrize("name", [name for name, (text, *_) in DOCUMENTS.items() if len(json.dumps(text)) < 1_000_000])
def test_hostile_documents_are_refused_over_http(default: Program, name: str) -> None:
    text, expected, limit = DOCUMENTS[name]
    status, answer = default.post({"query": text})
    assert status == 200
    errors = answer.get("errors", [])
    if expected:
        assert {error["extensions"]["code"] for error in errors} == {expected}
        assert errors[0]["extensions"].get("limit") == limit
    else:
        assert {error["extensions"]["code"] for error in errors} <= {"BAD_USER_INPUT"}
    assert "Traceback" not in default.log()


@pytest.mark.parametrize("which", ["default", "strict"])
def test_the_standard_introspection_is_answered(which: str, request: pytest.FixtureRequest) -> None:
    """GraphiQL, Apollo, graphql-codegen and Insomnia send this query."""
    query = get_introspection_query(
        specified_by_url=True, directive_is_repeatable=True, schema_description=True, input_value_deprecation=True,
        one_of=True, type_depth=9,
    )  # fmt: skip
    status, answer = request.getfixturevalue(which).post({"query": query})
    assert (status, list(answer)) == (200, ["data"])
    assert {"Query", "Mutation", "Subscription"} <= {kind["name"] for kind in answer["data"]["__schema"]["types"]}


def test_is_one_of_is_null_for_lists_and_non_null_types(default: Program) -> None:
    status, answer = default.post({"query": "{ __schema { types { kind isOneOf fields { type { kind isOneOf } } } } }"})

    assert (status, list(answer)) == (200, ["data"])
    types = answer["data"]["__schema"]["types"]
    of_fields = [field["type"] for kind in types for field in kind["fields"] or []]
    combinations = {(kind["kind"], kind["isOneOf"]) for kind in [*types, *of_fields]}
    assert {("NON_NULL", None), ("LIST", None), ("INPUT_OBJECT", False), ("OBJECT", False)} <= combinations
    assert "Traceback" not in default.log()


def test_a_list_of_operations_is_not_executed(default: Program) -> None:
    status, answer = default.post([{"query": "{ __typename }"}] * 2)
    assert (status, answer["errors"][0]["extensions"]["code"]) == (400, "BAD_REQUEST")
