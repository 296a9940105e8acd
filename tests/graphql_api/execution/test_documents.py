"""Documents: hostile ones hold nothing up, and what is remembered has a bound."""

import asyncio
import gc
import tracemalloc
from collections.abc import Callable, Iterator

import pytest
import strawberry
from graphql import GraphQLError, parse

from ringback.graphql_api.errors import MAX_MESSAGE
from ringback.graphql_api.execution.documents import CACHED_CHARS, MAX_CACHED_CHARS, MAX_LINES
from ringback.graphql_api.execution.engine import Engine, OperationType, RequestRefused
from ringback.graphql_api.execution.operation_limits import OperationLimits
from ringback.graphql_api.schema.build import schema
from tests.support.hostile_documents import DOCUMENTS, many
from tests.support.lag import hold_the_loop, share_of_allowed


@pytest.fixture
def engine() -> Iterator[Engine]:
    made = Engine(schema)
    yield made
    made.close()


async def refused(engine: Engine, text: str, name: str | None = None) -> tuple[GraphQLError, ...]:
    """Return the errors of a document; none when it is accepted."""
    try:
        await engine.operation(text, name)
    except RequestRefused as refusal:
        return refusal.errors
    return ()


def code_of(error: GraphQLError) -> str:
    """Return the code of an error, which must have one."""
    assert error.extensions is not None
    return str(error.extensions["code"])


async def code(engine: Engine, text: str, name: str | None = None) -> tuple[str, str]:
    """Return code and message of the only error."""
    (error,) = await refused(engine, text, name)
    return code_of(error), error.message


@pytest.mark.parametrize("name", DOCUMENTS)
@pytest.mark.measures_cpu
async def test_a_hostile_document_holds_nothing_up(name: str) -> None:
    text, expected, limit = DOCUMENTS[name]
    errors: tuple[GraphQLError, ...] = ()

    async def check() -> None:
        nonlocal errors
        engine = Engine(schema)
        errors = await refused(engine, text)
        engine.close()

    assert await share_of_allowed(check) < 1
    assert {code_of(error) for error in errors} == ({expected} if expected else set())
    assert [(error.extensions or {}).get("limit") for error in errors[:1]] == [limit] * min(len(errors), 1)
    # A few errors are enough, and they do not send back what was sent.
    assert len(errors) <= 6
    assert all(len(error.message) <= MAX_MESSAGE + 1 for error in errors)
    assert all(len(error.locations or ()) <= 10 for error in errors)


@pytest.mark.measures_cpu
async def test_all_of_them_at_once_hold_nothing_up() -> None:
    async def check_all() -> None:
        engine = Engine(schema)
        for errors in await asyncio.gather(*(refused(engine, text) for text, _, _ in DOCUMENTS.values())):
            assert all(code_of(error) for error in errors)
        engine.close()

    # Garbage of many of them is collected at once.
    assert await share_of_allowed(check_all, limit=3) < 3


@pytest.mark.measures_cpu
async def test_the_widest_introspection_holds_the_loop_for_less_than_a_second(engine: Engine) -> None:
    text, _, _ = DOCUMENTS["a wide introspection"]
    inner = text.removeprefix("{").removesuffix("}")
    twice = f"{{ a: {inner} b: {inner} }}"
    operation = await engine.operation(twice)

    async def execute() -> None:
        answer = await engine.execute(operation, {}, FewServices())  # type: ignore[arg-type]
        assert answer.data is not None

    assert await share_of_allowed(execute, limit=20) < 20


@pytest.mark.measures_cpu
async def test_what_holds_the_loop_up_is_noticed() -> None:
    async def hold_it_up() -> None:
        await asyncio.sleep(0.01)
        hold_the_loop(share=3)

    assert await share_of_allowed(hold_it_up) > 1


async def test_the_same_document_gives_the_same_operation(engine: Engine) -> None:
    first = await engine.operation("{ __typename }")
    assert await engine.operation("{ __typename }") is first
    assert await engine.operation("{ __typename } ") is not first
    assert first.kind is OperationType.QUERY


async def test_requests_for_one_document_share_its_check(engine: Engine) -> None:
    found = await asyncio.gather(*(engine.operation("{ viewer { token { id } } }") for _ in range(20)))
    assert len(set(map(id, found))) == 1


async def test_one_that_goes_away_does_not_take_the_check_along(engine: Engine) -> None:
    text = "{ viewer { token { id } } }"
    gone = asyncio.create_task(engine.operation(text))
    waiting = asyncio.create_task(engine.operation(text))
    await asyncio.sleep(0)
    gone.cancel()
    assert (await waiting).kind is OperationType.QUERY
    with pytest.raises(asyncio.CancelledError):
        await gone


async def test_an_operation_is_chosen_by_its_name(engine: Engine) -> None:
    text = "query A { __typename } mutation B { __typename }"
    assert (await engine.operation(text, "A")).kind is OperationType.QUERY
    assert (await engine.operation(text, "B")).kind is OperationType.MUTATION
    for name, message in (
        (None, "The document has several operations: say by operationName which one to run."),
        ("C", "operationName must name one of the document's operations."),
    ):
        assert await code(engine, text, name) == ("BAD_REQUEST", message)
    # What another operation lacks is not asked for.
    assert len((await engine.operation("query A { ...F } query B { __typename } fragment F on Query { __typename }",
                                       "B")).document.definitions) == 1  # fmt: skip


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
async def test_errors_say_where_they_are(engine: Engine, end: str) -> None:
    (error,) = await refused(engine, f"{{{end}  viewer {{ token {{ id{end}    nope }} }} }}")
    assert error.locations == [(3, 5)]
    (error,) = await refused(engine, f"{{{end}  viewer {{{end}{end} !")
    assert (error.locations, code_of(error)) == ([(4, 2)], "GRAPHQL_PARSE_FAILED")


async def test_in_very_long_documents_errors_do_not_say_where(engine: Engine) -> None:
    for lines, locations in ((MAX_LINES, [(MAX_LINES + 1, 3)]), (MAX_LINES + 1, None)):
        (error,) = await refused(engine, "\n" * lines + "{ nope }")
        assert error.locations == locations


async def test_near_names_are_looked_for_in_short_documents_only(engine: Engine) -> None:
    wrong = "{ viewer { token { nam } } }"
    message = "Cannot query field 'nam' on type 'ApiToken'."
    assert await code(engine, wrong) == ("GRAPHQL_VALIDATION_FAILED", f"{message} Did you mean 'name'?")
    assert await code(engine, wrong + " " * MAX_CACHED_CHARS) == ("GRAPHQL_VALIDATION_FAILED", message)


async def test_validation_stops_at_the_first_errors(engine: Engine) -> None:
    errors = await refused(engine, "{ a b c d e f g h }")
    assert [error.message[:22] for error in errors] == [*["Cannot query field '" + c + "'" for c in "abcde"],
                                                        "Too many validation er"]  # fmt: skip


#: How to make documents of a kind, and how many of them are more than can be remembered.
FILLERS: dict[str, tuple[int, Callable[[int], str]]] = {
    "valid": (200, lambda n: f"query Q{n} {{ viewer {{ {many(30, '... on Viewer { token { id name } }')} }} }}"),
    "dense": (220, lambda n: f"query Q{n} {{ viewer {{ {many(50, '...{token{id}}')} }} }}"),
    "numbers": (
        40,
        lambda n: f'mutation Q{n}{{testFireWebhook(input:{{webhookId:"x" item:[{"1 " * 4_900}]}}){{errors{{code}}}}}}',
    ),
    "short": (600, lambda n: f"{{a{n}:__typename}}"),
    "short and invalid": (600, lambda n: f"{{a{n} b c d e f}}"),
    "invalid": (600, lambda n: f"{{ {many(6, f'x%d_{n}_' + 'y' * 900)} }}"),
    "too deep": (600, lambda n: f"query Q{n} " + "{ viewer " * 25 + "{ x }" + "}" * 25),
    "unparsable": (200, lambda n: f"query Q{n} {{ {'я' * 16_000}"),
    "comments": (200, lambda n: f"#{n}{chr(0x1F600) * 16_000}\n{{ __typename }}"),
}


@pytest.mark.parametrize("name", FILLERS)
@pytest.mark.measures_cpu
async def test_what_is_remembered_has_a_bound(engine: Engine, name: str) -> None:
    count, make = FILLERS[name]
    known = engine._documents._known
    gc.collect()
    tracemalloc.start()
    try:
        for number in range(count // 20):
            await refused(engine, make(number))
        gc.collect()
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(known) == count // 20
    assert kept * CACHED_CHARS / known.currsize < 50_000_000
    for number in range(count // 20, count):
        await refused(engine, make(number))
    assert 0 < len(known) < count
    assert known.currsize <= CACHED_CHARS


async def test_long_documents_are_not_remembered(engine: Engine) -> None:
    for length, kept in ((MAX_CACHED_CHARS, True), (MAX_CACHED_CHARS + 1, False)):
        text = "{ __typename }".ljust(length)
        assert (await engine.operation(text) is await engine.operation(text)) is kept


async def test_documents_are_checked_while_others_are_executed() -> None:
    """graphql-core and Strawberry build parts of a schema when they are first needed, in whichever thread that is."""
    for _ in range(5):
        fresh = strawberry.Schema(schema.query, schema.mutation, schema.subscription, config=schema.config)
        engine = Engine(fresh, OperationLimits())
        found = await asyncio.gather(*(introspected(engine, number) for number in range(20)))
        assert found == [found[0]] * 20
        assert "Webhook" in found[0]
        engine.close()


async def introspected(engine: Engine, number: int) -> list[str]:
    """Ask for the names of all types that can be a Node, by a document that is new."""
    text = f'{{ a{number}: __type(name: "Node") {{ possibleTypes {{ name fields {{ name }} }} }} }}'
    answer = await engine.execute(await engine.operation(text), {}, FewServices())  # type: ignore[arg-type]
    assert answer.errors == ()
    assert answer.data is not None
    (found,) = answer.data.values()
    return [kind["name"] for kind in found["possibleTypes"] if kind["fields"]]


class FewServices:
    """Enough of a context for introspection."""

    async def reauthenticate(self) -> None:
        """Accept the token as it is."""


def test_the_nets_are_what_they_say() -> None:
    assert len(parse(DOCUMENTS["a wider net"][0]).definitions) == 152
