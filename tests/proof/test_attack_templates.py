"""Slow conditions and templates of one client delay no other client, on the really started program."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ringback.models.ids import Prefix, decode
from tests.support.bystander import MAX_DELAY_MS, measure_attack
from tests.support.deliveries import REQUEST_CALLBACK, TRACK_LEADS, create_webhook, open_database, test_fire
from tests.support.endpoints import Endpoints
from tests.support.program import Program
from tests.support.receiver import ALLOW_LOOPBACK

pytestmark = pytest.mark.alone

WEBHOOKS = 200
#: Seconds for which an attack lasts.
SECONDS = 6.0
#: A port that nobody listens on.
NOWHERE = "http://127.0.0.1:9/"
DAY = 24 * 3600
DECLARE = """
mutation ($input: DeclareModelInput!) { declareModel(input: $input) { errors { message } } }
"""
PUBLISH = """
mutation ($input: PublishChangesInput!) { publishChanges(input: $input) { errors { message } } }
"""
#: A list whose conversion to decimals, and comparison, takes more than a template's 50 ms.
LONG_LIST = [1] * 40_000
#: A template that takes about 25 ms.
SLOW_HEADER = "{% for i in (1..9000) %}{% assign text = item.text | append: i | upcase | size %}{% endfor %}1"


@pytest.fixture
def endpoints() -> Iterator[Endpoints]:
    with Endpoints() as listening:
        yield listening


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    with Program(tmp_path, env=ALLOW_LOOPBACK) as started:
        yield started
        assert "Traceback" not in started.log()


def declare(program: Program, name: str) -> None:
    fields = {"list": {"type": "array", "items": {"type": "number"}}, "n": {"type": "integer"}, "text": {}}
    schema = {"type": "object", "properties": fields}
    given = {"name": name, "label": "Thing", "jsonSchema": schema, "sample": {}}
    assert program.query(DECLARE, {"input": given})["declareModel"]["errors"] == []


def publish(program: Program, model: str, *items: dict[str, Any]) -> None:
    changes = [{"model": model, "action": "CREATED", "objectId": "1", "item": item} for item in items]
    payload = program.query(PUBLISH, {"input": {"changes": changes}})["publishChanges"]
    assert payload["errors"] == []


def request_callback(program: Program) -> None:
    given = {"name": "a" * 200, "phone": "1" * 60}
    assert program.query(REQUEST_CALLBACK, {"input": given})["requestCallback"]["errors"] == []


@contextmanager
def repeating(work: Any, threads: int = 1) -> Iterator[list[float]]:
    """Repeat a call while the block runs, and collect how long each took, in seconds."""
    ended = threading.Event()
    waits: list[float] = []

    def repeat() -> None:
        while not ended.is_set():
            began = time.monotonic()
            work()
            waits.append(time.monotonic() - began)
            ended.wait(0.02)

    running = [threading.Thread(target=repeat) for _ in range(threads)]
    for thread in running:
        thread.start()
    try:
        yield waits
    finally:
        ended.set()
        for thread in running:
            thread.join()


def check_waits(program: Program, attacked: Sequence[float], control: Sequence[float]) -> None:
    """Fail if the calls of another client took much longer during the attack, as far as a busy machine allows."""
    assert len(attacked) >= 10, f"another client made only {len(attacked)} calls during the attack"
    delay_ms = (find_p95(attacked) - find_p95(control)) * 1e3
    print(f"another client's mutation: {len(attacked)} calls, p95 +{delay_ms:.0f} ms, longest {max(attacked):.3f} s")
    assert delay_ms <= program.allowed(MAX_DELAY_MS)


def find_p95(waits: Sequence[float]) -> float:
    """Return the 95th percentile. The 99th of fewer than 100 calls would be the longest one."""
    return sorted(waits)[int(len(waits) * 0.95)]


def count_events(program: Program, webhook_id: str) -> dict[bool, int]:
    """Return the number of a webhook's events, by whether their condition is pending."""
    statement = "SELECT condition_pending, count(*) FROM ringback_event WHERE webhook_id = ? GROUP BY 1"
    with open_database(program) as connection:
        rows = connection.execute(statement, [str(decode(Prefix.WEBHOOK, webhook_id))]).fetchall()
    return {bool(is_pending): count for is_pending, count in rows}


def test_slow_conditions_on_published_changes_delay_nobody(program: Program) -> None:
    declare(program, "attacked")
    declare(program, "other")
    for number in range(WEBHOOKS):
        condition = f"item.list contains {number + 2}"
        create_webhook(program, NOWHERE, model="attacked", condition=condition, retryDelaysSeconds=[DAY])
    quick = create_webhook(program, NOWHERE, model="attacked", condition="item.n == 1", retryDelaysSeconds=[DAY])
    create_webhook(program, NOWHERE, model="other", condition="item.n == 1", retryDelaysSeconds=[DAY])
    items = [{"list": LONG_LIST, "n": number % 2} for number in range(2)]
    with repeating(lambda: publish(program, "other", {"n": 1})) as control:
        time.sleep(3)

    with (
        measure_attack(program) as cost,
        repeating(lambda: publish(program, "other", {"n": 1})) as attacked,
        repeating(lambda: publish(program, "attacked", *items)) as attacks,
    ):
        time.sleep(SECONDS)

    print(f"{len(attacks)} attacks, the longest took {max(attacks):.2f} s")
    cost.check()
    check_waits(program, attacked, control)
    # The slow conditions take nothing from the quick one, which is true for half of the changes.
    assert count_events(program, quick) == {False: len(attacks)}


def test_slow_conditions_on_leads_delay_nobody(program: Program) -> None:
    program.query(TRACK_LEADS)
    declare(program, "other")
    for number in range(WEBHOOKS):
        condition = " or ".join(["(1..9999) contains item.name"] * 40 + [f"item.phone == '{number}'"])
        create_webhook(program, NOWHERE, condition=condition, retryDelaysSeconds=[DAY])
    create_webhook(program, NOWHERE, model="other", retryDelaysSeconds=[DAY])
    with repeating(lambda: publish(program, "other", {})) as control:
        time.sleep(3)

    with (
        measure_attack(program) as cost,
        repeating(lambda: publish(program, "other", {})) as attacked,
        repeating(lambda: request_callback(program), threads=3) as attacks,
    ):
        time.sleep(SECONDS)

    print(f"{len(attacks)} attacks, the longest took {max(attacks):.2f} s")
    cost.check()
    check_waits(program, attacked, control)


def test_slow_headers_delay_no_healthy_webhook(program: Program, endpoints: Endpoints) -> None:
    declare(program, "attacked")
    healthy = create_webhook(
        program, f"{endpoints.url}/healthy", retryDelaysSeconds=[0], bodyTemplate="{{ item.name }}"
    )
    headers = [{"name": f"X-{number}", "value": SLOW_HEADER} for number in range(50)]
    create_webhook(program, f"{endpoints.url}/slow", model="attacked", headers=headers, retryDelaysSeconds=[0])
    control = measure_lateness(program, endpoints, healthy, 3.0)

    with measure_attack(program) as cost:
        publish(program, "attacked", *[{"text": "t" * 20}] * 200)
        attacked = measure_lateness(program, endpoints, healthy, SECONDS)

    cost.check()
    check_waits(program, attacked, control)


def measure_lateness(program: Program, endpoints: Endpoints, webhook: str, seconds: float) -> list[float]:
    """Test-fire a webhook again and again; return how long after each mutation its request came."""
    fired: dict[str, float] = {}
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        event_id = test_fire(program, webhook, name="Ada")
        fired[event_id] = time.monotonic()
        time.sleep(0.05)
    program.wait_until(lambda: fired.keys() <= endpoints.came("/healthy").keys(), "the healthy webhook's events")
    came = endpoints.came("/healthy")
    return [came[event_id] - at for event_id, at in fired.items()]
