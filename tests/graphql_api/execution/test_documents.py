"""Documents: hostile ones do not block the event loop, and the cache is limited."""

import asyncio
import gc
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Self
from uuid import UUID

import pytest
import strawberry
from graphql import GraphQLError, parse

from ringback.graphql_api.context.dataloaders import Loaders
from ringback.graphql_api.errors import MAX_MESSAGE
from ringback.graphql_api.execution.document_cache import DocumentCache
from ringback.graphql_api.execution.documents import BYTES_PER_TOKEN, MAX_CACHED_CHARS, MAX_LINES
from ringback.graphql_api.execution.engine import Engine, OperationType, RequestRefused, TooManyRequests
from ringback.graphql_api.execution.operation_limits import OperationLimits
from ringback.graphql_api.schema.build import schema
from ringback.models.api_token import ApiToken
from tests.support.hostile_documents import DOCUMENTS, many
from tests.support.lag import hold_the_loop, share_of_allowed

MINE, THEIRS = UUID(int=1), UUID(int=2)


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = Engine(schema)
    yield engine
    engine.close()


async def refused(engine: Engine, text: str, name: str | None = None) -> tuple[GraphQLError, ...]:
    """Return the errors for which a document is refused, or () if it is accepted."""
    try:
        await engine.operation(text, name)
    except RequestRefused as refusal:
        return refusal.errors
    return ()


def code_of(error: GraphQLError) -> str:
    """Return the code of an error, and fail if it has none."""
    assert error.extensions is not None
    return str(error.extensions["code"])


async def code_and_message(engine: Engine, text: str, name: str | None = None) -> tuple[str, str]:
    """Return the code and message of the only error."""
    (error,) = await refused(engine, text, name)
    return code_of(error), error.message


@pytest.mark.parametrize("name", DOCUMENTS)
@pytest.mark.measures_cpu
async def test_a_hostile_document_does_not_block_the_loop(name: str) -> None:
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
    # Errors are few and do not quote the whole document.
    assert len(errors) <= 6
    assert all(len(error.message) <= MAX_MESSAGE + 1 for error in errors)
    assert all(len(error.locations or ()) <= 10 for error in errors)


@pytest.mark.measures_cpu
async def test_all_hostile_documents_at_once_do_not_block_the_loop() -> None:
    async def check_all() -> None:
        engine = Engine(schema)
        for errors in await asyncio.gather(*(refused(engine, text) for text, _, _ in DOCUMENTS.values())):
            assert all(code_of(error) for error in errors)
        engine.close()

    # The garbage of several is collected at once, hence the higher limit.
    assert await share_of_allowed(check_all, limit=3) < 3


@pytest.mark.measures_cpu
async def test_the_widest_introspection_does_not_block_the_loop(engine: Engine) -> None:
    text, _, _ = DOCUMENTS["a wide introspection"]
    inner = text.removeprefix("{").removesuffix("}")
    twice = f"{{ a: {inner} b: {inner} }}"
    operation = await engine.operation(twice)

    async def execute() -> None:
        answer = await engine.execute(operation, {}, FewServices())  # type: ignore[arg-type]
        assert answer.data is not None

    assert await share_of_allowed(execute) < 1


@pytest.mark.measures_cpu
async def test_blocking_the_loop_is_noticed() -> None:
    async def block() -> None:
        await asyncio.sleep(0.01)
        hold_the_loop(share=3)

    assert await share_of_allowed(block) > 1


async def test_the_same_document_gives_the_same_operation(engine: Engine) -> None:
    first = await engine.operation("{ __typename }")
    assert await engine.operation("{ __typename }") is first
    assert await engine.operation("{ __typename } ") is not first
    assert first.kind is OperationType.QUERY


async def test_requests_for_one_document_share_its_check(engine: Engine) -> None:
    operations = await asyncio.gather(*(engine.operation("{ viewer { token { id } } }") for _ in range(20)))
    assert len(set(map(id, operations))) == 1


async def test_cancelling_one_request_does_not_cancel_the_shared_check(engine: Engine) -> None:
    text = "{ viewer { token { id } } }"
    cancelled = asyncio.create_task(engine.operation(text))
    waiting = asyncio.create_task(engine.operation(text))
    await asyncio.sleep(0)
    cancelled.cancel()
    assert (await waiting).kind is OperationType.QUERY
    with pytest.raises(asyncio.CancelledError):
        await cancelled


async def test_an_operation_is_chosen_by_its_name(engine: Engine) -> None:
    text = "query A { __typename } mutation B { __typename }"
    assert (await engine.operation(text, "A")).kind is OperationType.QUERY
    assert (await engine.operation(text, "B")).kind is OperationType.MUTATION
    for name, message in (
        (None, "The document has several operations. Set operationName to the name of one of them."),
        ("C", "operationName must name one of the document's operations."),
    ):
        assert await code_and_message(engine, text, name) == ("BAD_REQUEST", message)
    # The fragments of other operations are left out.
    assert len((await engine.operation("query A { ...F } query B { __typename } fragment F on Query { __typename }",
                                       "B")).document.definitions) == 1  # fmt: skip


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
async def test_errors_have_locations(engine: Engine, end: str) -> None:
    (error,) = await refused(engine, f"{{{end}  viewer {{ token {{ id{end}    nope }} }} }}")
    assert error.locations == [(3, 5)]
    (error,) = await refused(engine, f"{{{end}  viewer {{{end}{end} !")
    assert (error.locations, code_of(error)) == ([(4, 2)], "GRAPHQL_PARSE_FAILED")


async def test_errors_of_very_long_documents_have_no_locations(engine: Engine) -> None:
    for lines, locations in ((MAX_LINES, [(MAX_LINES + 1, 3)]), (MAX_LINES + 1, None)):
        (error,) = await refused(engine, "\n" * lines + "{ nope }")
        assert error.locations == locations


async def test_similar_names_are_suggested_for_short_documents_only(engine: Engine) -> None:
    wrong = "{ viewer { token { nam } } }"
    message = "Cannot query field 'nam' on type 'ApiToken'."
    assert await code_and_message(engine, wrong) == ("GRAPHQL_VALIDATION_FAILED", f"{message} Did you mean 'name'?")
    assert await code_and_message(engine, wrong + " " * MAX_CACHED_CHARS) == ("GRAPHQL_VALIDATION_FAILED", message)


async def test_validation_stops_at_the_first_errors(engine: Engine) -> None:
    errors = await refused(engine, "{ a b c d e f g h }")
    assert [error.message[:22] for error in errors] == [*["Cannot query field '" + c + "'" for c in "abcde"],
                                                        "Too many validation er"]  # fmt: skip


#: A number of documents that exceeds the cache, and a function that makes them.
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
async def test_the_cache_is_limited(engine: Engine, name: str) -> None:
    count, make = FILLERS[name]
    await refused(engine, make(count))
    cache = engine._documents._cache = DocumentCache(5_000_000)
    gc.collect()
    tracemalloc.start()
    try:
        for number in range(count // 20):
            await refused(engine, make(number))
        gc.collect()
        memory, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(cache) == count // 20
    assert memory < 1.2 * cache.weight
    for number in range(count // 20, count):
        await refused(engine, make(number))
    assert 0 < len(cache) < count
    assert cache.weight <= 5_000_000


async def test_a_flood_of_documents_evicts_those_of_its_own_token_only(engine: Engine) -> None:
    engine._documents._cache = DocumentCache(300_000)
    mine = await engine.operation("{ __typename }", token_id=MINE)
    for number in range(100):
        await engine.operation(f"{{ a{number}: __typename }}", token_id=THEIRS)

    assert await engine.operation("{ __typename }", token_id=MINE) is mine
    assert await engine.operation("{ __typename }", token_id=THEIRS) is mine


async def test_new_documents_of_a_token_with_much_waiting_are_refused(engine: Engine) -> None:
    waiting = [asyncio.create_task(send_large(engine, number, MINE)) for number in range(7)]
    await asyncio.sleep(0)
    another = await engine.operation("{ __typename }", token_id=THEIRS)
    refusals = [error for error in await asyncio.gather(*waiting) if error]

    assert another.kind is OperationType.QUERY
    # One is being checked, and five wait.
    (error,) = refusals
    assert "RINGBACK_API_MAX_BODY_BYTES" in error.message
    assert error.extensions == {"code": "TOO_MANY_REQUESTS", "limit": "waitingBytes", "allowed": 1_048_576,
                                "retryAfterSeconds": 1}  # fmt: skip


async def send_large(engine: Engine, number: int, token_id: UUID) -> GraphQLError | None:
    """Send a new document in a request of 200,000 bytes. Return the error if too much is waiting."""
    try:
        await engine.operation(f"{{ a{number}: __typename }}", token_id=token_id, request_bytes=200_000)
    except TooManyRequests as refusal:
        return refusal.errors[0]
    return None


async def test_long_documents_are_not_cached(engine: Engine) -> None:
    for length, is_cached in ((MAX_CACHED_CHARS, True), (MAX_CACHED_CHARS + 1, False)):
        text = "{ __typename }".ljust(length)
        assert (await engine.operation(text) is await engine.operation(text)) is is_cached


async def test_the_text_of_a_long_document_counts_as_tokens(engine: Engine) -> None:
    short = await engine.operation("{ __typename }")
    long = await engine.operation("{ __typename }" + " " * 40 * BYTES_PER_TOKEN)

    assert long.token_count == short.token_count + 40


async def test_documents_are_checked_while_others_are_executed() -> None:
    """Test for races: graphql-core and Strawberry build parts of a schema at their first use, in any thread."""
    for _ in range(5):
        fresh = strawberry.Schema(schema.query, schema.mutation, schema.subscription, config=schema.config)
        engine = Engine(fresh, OperationLimits())
        results = await asyncio.gather(*(introspect_nodes(engine, number) for number in range(20)))
        assert results == [results[0]] * 20
        assert "Webhook" in results[0]
        engine.close()


async def introspect_nodes(engine: Engine, number: int) -> list[str]:
    """Return the names of all types that implement Node, by a document that is not cached."""
    text = f'{{ a{number}: __type(name: "Node") {{ possibleTypes {{ name fields {{ name }} }} }} }}'
    answer = await engine.execute(await engine.operation(text), {}, FewServices())  # type: ignore[arg-type]
    assert answer.errors == ()
    assert answer.data is not None
    (node,) = answer.data.values()
    return [kind["name"] for kind in node["possibleTypes"] if kind["fields"]]


class FewServices:
    """A context with all that introspection needs."""

    viewer = ApiToken(id=MINE)
    request_slot = None
    loaders = Loaders()

    async def reauthenticate(self) -> None:
        """Accept the token."""

    def with_own_loaders(self) -> Self:
        """Return this context: introspection loads no rows."""
        return self


def test_the_wider_net_has_152_definitions() -> None:
    assert len(parse(DOCUMENTS["a wider net"][0]).definitions) == 152
