"""The client that `tests.support.bystander` measures. It imports little, because each attack starts one.

Usage: python -m tests.support.bystander_client URL TOKEN
"""

import http.client
import json
import sys
import threading
import time
from urllib.parse import urlsplit

#: Pause between two requests, in seconds.
PAUSE_SECONDS = 0.01
_QUERY = json.dumps({"query": "{ __typename }"})


def main(url: str, token: str) -> None:
    """Ask over one connection until standard input ends, then print when each request began and how long it took.

    The first answer is reported at once.
    """
    ended = threading.Event()

    def wait_for_end_of_input() -> None:
        sys.stdin.read()
        ended.set()

    threading.Thread(target=wait_for_end_of_input, daemon=True).start()
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=100)
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    waits: list[tuple[float, float]] = []
    while not ended.wait(PAUSE_SECONDS):
        at = time.time()
        connection.request("POST", "/graphql", _QUERY, headers)
        response = connection.getresponse()
        answer = response.read()
        if response.status != 200 or b"errors" in answer:
            raise SystemExit(f"the client got {response.status}: {answer!r}")
        waits.append((at, time.time() - at))
        if len(waits) == 1:
            print("started", flush=True)
    print(json.dumps(waits))


if __name__ == "__main__":
    main(*sys.argv[1:])
