"""Attacks with documents: costly ones, introspection, and floods of new ones that replace those in the cache."""

import json
import threading
import time
from collections.abc import Iterator

import pytest
from graphql import get_introspection_query

from tests.support.bystander import measure_attack
from tests.support.flood import Answer, create_tokens, flood
from tests.support.hostile_documents import many, net
from tests.support.program import Program

pytestmark = pytest.mark.alone

CLIENTS = 50
SECONDS = 5.0
#: What a small new document of another client may wait, in seconds.
MAX_WAIT_SECONDS = 2.0


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    with Program(tmp_path_factory.mktemp("documents"), "api") as program:
        yield program


def costly(number: int) -> bytes:
    """Return a request whose document takes as long to check as any: operations that share a chain of fragments."""
    operations = many(300, f"query Q{number}_%d {{ ...F0 }}")
    return json.dumps({"query": operations + net(190, 1).removeprefix("{ ...F0 }")}).encode()


def overlapping(number: int) -> bytes:
    """Return a request whose document has as many fields as allowed, all to be compared."""
    return json.dumps({"query": f"query Q{number} {{ viewer {{ token {{ {'name ' * 4_900} }} }} }}"}).encode()


def cheap(number: int) -> bytes:
    """Return a request with a small document that no other request has."""
    return json.dumps({"query": f"query Q{number} {{ a{number}: __typename }}"}).encode()


def introspection(_: int) -> bytes:
    """Return a request for the whole schema."""
    return json.dumps({"query": get_introspection_query()}).encode()


class Newcomer(threading.Thread):
    """A client that sends a small new document now and then. `waits` has how long each took."""

    def __init__(self, program: Program) -> None:
        super().__init__()
        self.waits: list[float] = []
        self._program = program

    def run(self) -> None:
        time.sleep(2.0)
        for _ in range(8):
            sent_at = time.monotonic()
            assert self._program.post({"query": f"{{ newcomer{time.time_ns()}: __typename }}"})[0] == 200
            self.waits.append(time.monotonic() - sent_at)
            time.sleep(0.2)


@pytest.mark.parametrize("count", [1, CLIENTS], ids=["one token", "a token each"])
def test_costly_documents_delay_nobody_else(program: Program, count: int) -> None:
    tokens = create_tokens(program, count)

    with measure_attack(program) as cost:
        newcomer = Newcomer(program)
        newcomer.start()
        sent = flood(program, tokens, costly, connections=CLIENTS, seconds=SECONDS)
        newcomer.join()

    cost.check()
    print(f"{sent}; a new document of another client waits at most {max(newcomer.waits):.2f} s")
    assert max(newcomer.waits) < MAX_WAIT_SECONDS
    assert {answer.status for answer in sent.answers} <= {200, 429}
    assert program.log().count("Traceback") == 0


def test_costly_documents_delay_no_checked_ones_of_the_same_token(program: Program) -> None:
    with measure_attack(program) as cost:
        sent = flood(program, [program.token], overlapping, connections=CLIENTS, seconds=SECONDS)

    cost.check()
    # A request of 24 kB: 42 of them fill what one token may have waiting.
    refused = Answer(429, "TOO_MANY_REQUESTS", "waitingBytes", "1")
    assert sent.answers[refused] > 0
    assert set(sent.answers) == {refused, Answer(200, "LIMIT_EXCEEDED", "validation", None)}


def test_introspection_delays_nobody_else(program: Program) -> None:
    with measure_attack(program) as cost:
        sent = flood(program, [program.token], introspection, connections=CLIENTS, seconds=SECONDS)

    cost.check()
    assert {answer.status for answer in sent.answers} == {200}


def test_new_documents_do_not_replace_those_of_others(program: Program) -> None:
    """The documents of a client that comes rarely stay in the cache, so they do not wait even if checking is busy."""
    program.query("{ rare: __typename }")
    (token,) = create_tokens(program, 1)

    with measure_attack(program) as cost:
        sent = flood(program, [token], cheap, connections=8, seconds=SECONDS)
        sent_at = time.monotonic()
        program.query("{ rare: __typename }")
        waited = time.monotonic() - sent_at

    cost.check()
    assert waited < MAX_WAIT_SECONDS
    assert {answer.status for answer in sent.answers} == {200}


def test_documents_without_a_valid_token_are_not_checked(program: Program) -> None:
    with measure_attack(program) as cost:
        sent = flood(program, ["rbk_no-such-token-was-ever-created"], costly, connections=CLIENTS, seconds=SECONDS)

    cost.check()
    assert {(answer.status, answer.code) for answer in sent.answers} == {(401, "UNAUTHENTICATED")}
    assert sent.longest_seconds < 5.0
