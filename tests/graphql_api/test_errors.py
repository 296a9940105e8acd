"""Only declared errors reach clients. Any other error is masked, with an id that is also in the log."""

import ast
import asyncio
import json
import re
import sqlite3
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from enum import Enum
from pathlib import Path
from typing import Any, cast, get_args

import orjson
import pytest
import strawberry
from graphql import GraphQLError
from strawberry.scalars import JSON
from strawberry.schema.config import StrawberryConfig
from structlog.testing import capture_logs
from tortoise.exceptions import DBConnectionError, OperationalError

from ringback.graphql_api import errors
from ringback.graphql_api.errors import ApiError
from ringback.graphql_api.execution.engine import Engine, ExecutionResponse
from ringback.graphql_api.fields.scalars import SCALARS
from tests.support.api import Api
from tests.support.patience import PATIENCE_SECONDS
from tests.support.program import Program

SECRET = "/srv/secret/ringback.db"


@strawberry.enum
class Colour(Enum):
    RED = "red"


class Bug(Exception):
    """An unexpected error."""


FAILURES: dict[str, Any] = {
    "bug": Bug(SECRET),
    "key": KeyError(SECRET),
    "database": OperationalError(f"unable to open database file {SECRET}"),
    "recursion": RecursionError(SECRET),
    "timeout": TimeoutError(SECRET),
    "value": ValueError(SECRET),
    "graphql": GraphQLError(SECRET),
}


def fail(how: str) -> str:
    raise FAILURES[how]


@strawberry.type
class Query:
    @strawberry.field
    def sync(self, how: str) -> str:
        return fail(how)

    @strawberry.field
    async def later(self, how: str) -> str | None:
        await asyncio.sleep(0)
        return fail(how)

    @strawberry.field
    def nothing(self) -> str:
        return None  # type: ignore[return-value]

    @strawberry.field
    def text(self) -> str:
        return {SECRET: 1}  # type: ignore[return-value]

    @strawberry.field
    def number(self) -> int:
        return cast(int, SECRET)

    @strawberry.field
    def huge(self) -> int:
        return 2**40

    @strawberry.field
    def colour(self) -> Colour:
        return cast(Colour, SECRET)

    @strawberry.field
    def many(self) -> list[str]:
        return 5  # type: ignore[return-value]

    @strawberry.field
    def json(self) -> JSON:
        return JSON({"a": {Bug(SECRET)}})

    @strawberry.field
    def surrogate(self) -> str:
        return f"{SECRET}\ud800"

    @strawberry.field
    def declared(self) -> str:
        raise ApiError("CURSOR_BEHIND", "Too slow.", cursor="abc")

    @strawberry.field
    def doubled(self, number: int) -> int:
        return 2 * number


@strawberry.type
class Mutation:
    @strawberry.mutation
    async def do(self, how: str) -> str:
        return fail(how)


@strawberry.type
class Subscription:
    @strawberry.subscription
    async def source(self, how: str) -> AsyncIterator[str]:
        yield "one"
        fail(how)

    @strawberry.subscription
    async def values(self) -> AsyncIterator[int]:
        yield 1
        yield cast(int, SECRET)
        yield 2


FAILING = strawberry.Schema(Query, Mutation, Subscription, config=StrawberryConfig(scalar_map=SCALARS))


@pytest.fixture
def failing(api: Api) -> Iterator[Api]:
    """Make the API with a schema whose resolvers fail."""
    engine = Engine(FAILING)
    yield Api(api.services, api.token, engine)
    engine.close()


@pytest.fixture
def logged() -> Iterator[list[Any]]:
    with capture_logs() as lines:
        yield lines


def check_masked(answer: ExecutionResponse, logged: list[Any], path: list[str]) -> None:
    """Check that the only error reveals nothing but an id, and that the log has one line with it and the exception."""
    (error,) = answer.errors
    formatted = error.formatted
    error_id = formatted["extensions"]["id"]
    assert re.fullmatch(r"[0-9a-f]{32}", error_id)
    assert formatted["message"] == f"Something went wrong on the server. Its log has the details under id {error_id}."
    assert formatted["extensions"] == {"code": "INTERNAL", "id": error_id}
    assert formatted["path"] == path
    for text in (SECRET.encode(), b"Traceback", b".py", b"Bug", b"Error", b"site-packages"):
        assert text not in answer.json
    (line,) = logged
    assert (line["log_level"], line["event"], line["error_id"]) == ("error", "internal error", error_id)
    assert SECRET in str(line["exc_info"]) or "nothing" in path or "many" in path or "huge" in path
    logged.clear()


@pytest.mark.parametrize("how", FAILURES)
async def test_a_failure_is_masked(failing: Api, logged: list[Any], how: str) -> None:
    answer = await failing.execute("query($how: String!) { sync(how: $how) }", how=how)
    assert answer.data is None
    check_masked(answer, logged, ["sync"])
    answer = await failing.execute("query($how: String!) { later(how: $how) }", how=how)
    assert answer.data == {"later": None}
    check_masked(answer, logged, ["later"])
    answer = await failing.execute("mutation($how: String!) { do(how: $how) }", how=how)
    assert answer.data is None
    check_masked(answer, logged, ["do"])


@pytest.mark.parametrize("field", ["nothing", "text", "number", "huge", "colour", "many"])
async def test_a_value_that_its_type_cannot_represent_is_masked(failing: Api, logged: list[Any], field: str) -> None:
    check_masked(await failing.execute(f"{{ {field} }}"), logged, [field])


@pytest.mark.parametrize("field", ["json", "surrogate"])
async def test_a_value_that_json_cannot_hold_is_masked(failing: Api, logged: list[Any], field: str) -> None:
    answer = await failing.execute(f"{{ {field} }}")
    assert answer.errors == ()
    sent = orjson.loads(answer.json)
    assert sent["data"] is None
    ((line,), (error,)) = logged, sent["errors"]
    assert error["extensions"] == {"code": "INTERNAL", "id": line["error_id"]}
    assert SECRET.encode() not in answer.json


async def test_a_subscription_that_fails_is_masked_and_ends(failing: Api, logged: list[Any]) -> None:
    answers = [a async for a in await failing.follow("subscription($how: String!) { source(how: $how) }", how="bug")]
    assert answers[0].data == {"source": "one"}
    assert (len(answers), answers[1].executed) == (2, False)
    check_masked(answers[1], logged, ["source"])


async def test_a_failing_value_in_a_subscription_is_masked_and_the_next_one_comes(
    failing: Api, logged: list[Any]
) -> None:
    first, wrong, last = [answer async for answer in await failing.follow("subscription { values }")]
    assert (first.data, wrong.data, last.data) == ({"values": 1}, None, {"values": 2})
    check_masked(wrong, logged, ["values"])


async def test_a_declared_error_is_sent_unchanged(failing: Api, logged: list[Any]) -> None:
    answer = await failing.execute("{ declared }")
    (error,) = orjson.loads(answer.json)["errors"]
    assert error == {
        "message": "Too slow.",
        "locations": [{"line": 1, "column": 3}],
        "path": ["declared"],
        "extensions": {"code": "CURSOR_BEHIND", "cursor": "abc"},
    }
    assert logged == []


@pytest.mark.parametrize(
    ("document", "variables", "code"),
    [
        ("{", {}, "GRAPHQL_PARSE_FAILED"),
        ("{ nope }", {}, "GRAPHQL_VALIDATION_FAILED"),
        ("{ doubled(number: true) }", {}, "GRAPHQL_VALIDATION_FAILED"),
        ("query($n: Int!) { doubled(number: $n) }", {}, "BAD_USER_INPUT"),
        ("query($n: Int!) { doubled(number: $n) }", {"n": "x"}, "BAD_USER_INPUT"),
        ("query($n: Int!) { doubled(number: $n) }", {"n": None}, "BAD_USER_INPUT"),
        ("query($n: Int = 1) { doubled(number: $n) }", {"n": None}, "BAD_USER_INPUT"),
        ("query($n: Boolean = true) { text @skip(if: $n) }", {"n": None}, "BAD_USER_INPUT"),
    ],
)
async def test_client_errors_are_not_internal_errors(
    failing: Api, logged: list[Any], document: str, variables: dict[str, Any], code: str
) -> None:
    answer = await failing.execute(document, **variables)
    assert [(error.extensions or {})["code"] for error in answer.errors] == [code]
    assert logged == []


def test_missing_tables_are_masked_over_http(own_program: Program) -> None:
    def rename(table: str) -> None:
        with closing(sqlite3.connect(own_program.data_dir / "ringback.db", timeout=PATIENCE_SECONDS)) as db, db:
            db.execute(f"ALTER TABLE {table} RENAME TO gone_{table}")

    def check(answer: Any) -> None:
        (error,) = answer["errors"]
        assert error["extensions"].keys() == {"code", "id"}
        assert error["extensions"]["code"] == "INTERNAL"
        assert "gone" not in str(answer)
        assert "ringback_" not in str(answer)
        lines = [json.loads(line) for line in own_program.log().splitlines() if error["extensions"]["id"] in line]
        assert [line["event"] for line in lines] == ["internal error"]
        assert "no such table" in lines[0]["exception"]

    rename("ringback_webhook")
    status, answer = own_program.post({"query": "{ webhooks { nodes { id } } }"})
    assert (status, answer["data"]) == (200, {"webhooks": None})
    check(answer)
    rename("ringback_api_token")
    time.sleep(1.1)  # until valid tokens are looked up again
    status, answer = own_program.post({"query": "{ __typename }"})
    assert status == 500
    assert "data" not in answer
    check(answer)


def test_the_codes_in_use_are_those_of_the_table() -> None:
    folder = Path(errors.__file__).parent
    used = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                used |= codes_in(node)
    assert used == set(get_args(errors.Code)) - {"INTERNAL"}


def codes_in(call: ast.Call) -> set[str]:
    """Return the codes among the arguments of a call that makes an error."""
    name = call.func.id if isinstance(call.func, ast.Name) else ""
    if name not in ("ApiError", "_with_code", "malformed_request"):
        return set()
    constants = [node.value for argument in (*call.args, *call.keywords) for node in ast.walk(argument)
                 if isinstance(node, ast.Constant)]  # fmt: skip
    return {text for text in constants if isinstance(text, str) and re.fullmatch(r"[A-Z]+(_[A-Z]+)*", text)}


def test_an_unreachable_database_is_named_in_the_message() -> None:
    formatted = errors.to_graphql_error(DBConnectionError("could not connect to db.internal:5432")).formatted
    error_id = formatted["extensions"]["id"]
    assert formatted["extensions"]["code"] == "INTERNAL"
    assert formatted["message"] == (
        f"The server's database does not answer. Try again. The server's log has the details under id {error_id}."
    )
