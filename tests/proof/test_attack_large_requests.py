"""An attack by large requests that take long, sent with three tokens, while another token sends large ones too."""

import json
import threading
import time
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.bystander import measure_attack
from tests.support.flood import create_tokens
from tests.support.patience import PATIENCE_SECONDS
from tests.support.program import Program

pytestmark = pytest.mark.alone

ATTACKERS = 3
REQUESTS_PER_TOKEN = 3
SECONDS = 3.0
#: The longest that another token's large request may wait.
MAX_WAIT_SECONDS = 1.0
#: Compiling each takes about 0.2 s.
PROPERTIES = {
    f"p{number}": {"type": "string", "pattern": f"^[a-z0-9]{{1,{number % 40 + 1}}}$"} for number in range(1_200)
}
SCHEMA = {"type": "object", "properties": PROPERTIES}
SLOW_FIELDS = " ".join(
    f'a{number}: declareModel(input: {{name: "m{number}", label: "T", jsonSchema: $s, sample: {{}}, force: true}})'
    " { errors { message } }"
    for number in range(12)
)
SLOW = {"query": f"mutation ($s: JSON!) {{ {SLOW_FIELDS} }}", "variables": {"s": SCHEMA, "unused": "x" * 500_000}}
LARGE = {"query": "{ __typename }", "variables": {"unused": "x" * 70_000}}


def post(program: Program, token: str, request: object) -> tuple[int, bytes]:
    connection = HTTPConnection(urlsplit(program.url).netloc, timeout=PATIENCE_SECONDS)
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    connection.request("POST", "/graphql", json.dumps(request), headers)
    response = connection.getresponse()
    answer = response.status, response.read()
    connection.close()
    return answer


def test_slow_large_requests_of_three_tokens_do_not_hold_all_slots(tmp_path: Path, migrated: Path) -> None:
    with Program(tmp_path, "api", migrated=migrated) as program:
        *attackers, other = create_tokens(program, ATTACKERS + 1)
        answers: list[tuple[int, bytes]] = []
        threads = [
            threading.Thread(target=lambda token=token: answers.append(post(program, token, SLOW)))
            for token in attackers
            for _ in range(REQUESTS_PER_TOKEN)
        ]

        with measure_attack(program) as cost:
            for thread in threads:
                thread.start()
            time.sleep(0.5)
            longest = 0.0
            end = time.monotonic() + SECONDS
            while time.monotonic() < end:
                began = time.monotonic()
                assert post(program, other, LARGE)[0] == 200
                longest = max(longest, time.monotonic() - began)
            for thread in threads:
                thread.join()

        print(f"another token's large request waited {longest:.2f} s at most")
        cost.check()
        assert longest < program.allowed(MAX_WAIT_SECONDS)
        assert len(answers) == ATTACKERS * REQUESTS_PER_TOKEN
        assert all(status == 200 and b"TOO_MANY_REQUESTS" not in body for status, body in answers)
