"""Clients that send requests to the program as fast as it answers, each over a connection of its own."""

import http.client
import itertools
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from tests.support.patience import PATIENCE_SECONDS
from tests.support.program import Program

CREATE_TOKEN = """
mutation ($name: String!) { createApiToken(input: {name: $name, role: ADMIN}) { secret errors { message } } }
"""


class Answer(NamedTuple):
    """What a request was answered with: status, the error's code and limit if there is one, and Retry-After."""

    status: int
    code: str | None
    limit: str | None
    retry_after: str | None


class Flood:
    """The answers to a flood. `longest_seconds` is the longest that one of its requests waited."""

    def __init__(self) -> None:
        self.answers: Counter[Answer] = Counter()
        self.longest_seconds = 0.0

    def __str__(self) -> str:
        counts = ", ".join(f"{count} × {tuple(answer)}" for answer, count in self.answers.most_common())
        return f"{counts}; longest wait {self.longest_seconds:.1f} s"


def create_tokens(program: Program, count: int) -> list[str]:
    """Create API tokens and return their secrets."""
    secrets = []
    for number in range(count):
        created = program.query(CREATE_TOKEN, {"name": f"flood {number}"})["createApiToken"]
        assert created["errors"] == []
        secrets.append(created["secret"])
    return secrets


def flood(
    program: Program, tokens: Sequence[str], make_body: Callable[[int], bytes], *, connections: int, seconds: float
) -> Flood:
    """POST bodies for `seconds` over so many connections, which take turns with the tokens. Each body gets a number."""
    result = Flood()
    lock = threading.Lock()
    numbers = itertools.count()
    end = time.monotonic() + seconds

    def send(token: str) -> None:
        connection = http.client.HTTPConnection(urlsplit(program.url).netloc, timeout=PATIENCE_SECONDS)
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        while time.monotonic() < end:
            body = make_body(next(numbers))
            sent_at = time.monotonic()
            connection.request("POST", "/graphql", body, headers)
            response = connection.getresponse()
            answer = _read_answer(response)
            with lock:
                result.answers[answer] += 1
                result.longest_seconds = max(result.longest_seconds, time.monotonic() - sent_at)
            if response.status == 429:
                time.sleep(0.1)
        connection.close()

    threads = [
        threading.Thread(target=send, args=(token,)) for token in itertools.islice(itertools.cycle(tokens), connections)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return result


def _read_answer(response: http.client.HTTPResponse) -> Answer:
    answer: dict[str, Any] = json.loads(response.read())
    errors = answer.get("errors") or [{}]
    extensions = errors[0].get("extensions", {})
    return Answer(response.status, extensions.get("code"), extensions.get("limit"), response.getheader("Retry-After"))
