"""`kill -9` of the whole program at random moments under steady load: nothing that was acknowledged is lost.

Eight kills by default; `RINGBACK_TEST_KILLS=50` is the full run. The report, printed at the end (pytest -s), says where
the kills fell: the database as the kill left it, and what the endpoint had seen by then, tell how far each event was.
"""

import datetime as dt
import json
import os
import random
import time
from collections import Counter
from pathlib import Path
from uuid import UUID

from ringback.models.ids import Prefix, decode, encode
from tests.support.deliveries import TRACK_LEADS, create_webhook, open_database
from tests.support.load import Load
from tests.support.patience import PATIENCE_SECONDS
from tests.support.program import Program
from tests.support.receiver import ALLOW_LOOPBACK, Receiver

KILLS = int(os.environ.get("RINGBACK_TEST_KILLS", "8"))
SEED = int(os.environ.get("RINGBACK_TEST_SEED", "0")) or time.time_ns() % 1_000_000
#: Between a start and the next kill, in seconds, at random.
ALIVE_SECONDS = (0.3, 1.3)
#: Deepest first: how far an event can be when its program is killed.
PHASES = (
    "answered, not recorded",
    "sent, not answered",
    "claimed, not seen by the endpoint",
    "due, not claimed",
    "waiting for a retry",
    "idle",
)


def test_what_was_acknowledged_is_delivered_however_often_the_program_is_killed(tmp_path: Path) -> None:
    chance = random.Random(SEED)
    by_kill: Counter[str] = Counter()
    by_event: Counter[str] = Counter()
    began = time.monotonic()
    program = Program(tmp_path, env={**ALLOW_LOOPBACK, "RINGBACK_LOG_LEVEL": "WARNING"})
    with Receiver(delay_seconds=(-0.04, 0.08), refuse=0.15, refusals=2) as receiver, program:
        program.query(TRACK_LEADS)
        create_webhook(
            program,
            receiver.url,
            actions=["CREATED", "UPDATED"],
            retryDelaysSeconds=[0, 1, 1],
            timeoutSeconds=30,
            sendJson=True,
        )
        phases = Phases(program, receiver)
        load = Load(program, SEED)
        load.start(clients=3)
        try:
            for _ in range(KILLS):
                time.sleep(chance.uniform(*ALIVE_SECONDS))
                found = phases.kill()
                by_event += found
                by_kill[next(phase for phase in PHASES if found[phase] or phase == "idle")] += 1
                program.start()
        finally:
            load.stop()
        program.wait_until(lambda: _waiting(program) == 0, "the end of all events", seconds=5 * PATIENCE_SECONDS)
        _report(program, receiver, load, by_kill, by_event, time.monotonic() - began)
        _check(program, receiver, load)


class Phases:
    """Tells how far each event was when its program was killed."""

    def __init__(self, program: Program, receiver: Receiver) -> None:
        self._program = program
        self._receiver = receiver
        #: Requests that earlier kills cut off: they belong to no attempt that ended.
        self._seen_before: Counter[str] = Counter()
        self._answered_before: Counter[str] = Counter()

    def kill(self) -> Counter[str]:
        """Kill the program; returns how many events were in each phase."""
        seen, answered = self._receiver.snapshot()
        self._program.kill()
        found: Counter[str] = Counter()
        for event_id, worker_id, is_due, recorded in self._left():
            name = encode(Prefix.EVENT, UUID(event_id))
            if worker_id is not None:
                if answered[name] > recorded + self._answered_before[name]:
                    found["answered, not recorded"] += 1
                elif seen[name] > recorded + self._seen_before[name]:
                    found["sent, not answered"] += 1
                else:
                    found["claimed, not seen by the endpoint"] += 1
                time.sleep(0.1)  # for what was on its way to the endpoint, and for its answer into the void
                late, late_answered = self._receiver.snapshot()
                self._seen_before[name] = late[name] - recorded
                self._answered_before[name] = late_answered[name] - recorded
            else:
                found["due, not claimed" if is_due else "waiting for a retry"] += 1
        return found

    def _left(self) -> list[tuple[str, str | None, bool, int]]:
        with open_database(self._program) as connection:
            return connection.execute(
                "SELECT e.id, e.worker_id, e.next_attempt_at <= ?, (SELECT count(*) FROM ringback_attempt a "
                "WHERE a.event_id = e.id AND a.outcome <> 'ABANDONED') "
                "FROM ringback_event e WHERE e.status IN ('PENDING', 'RETRYING')",
                [str(dt.datetime.now(dt.UTC))],
            ).fetchall()


def _waiting(program: Program) -> int:
    with open_database(program) as connection:
        query = "SELECT count(*) FROM ringback_event WHERE status IN ('PENDING', 'RETRYING')"
        return int(connection.execute(query).fetchone()[0])


def _check(program: Program, receiver: Receiver, load: Load) -> None:
    with open_database(program) as connection:
        events = connection.execute(
            "SELECT e.id, e.status, e.attempt_count, c.action, c.object_id, c.item "
            "FROM ringback_event e JOIN ringback_change c ON c.id = e.change_id"
        ).fetchall()
        attempts: dict[str, list[tuple[int, str]]] = {}
        for event_id, number, outcome in connection.execute(
            "SELECT event_id, number, outcome FROM ringback_attempt ORDER BY event_id, number"
        ):
            attempts.setdefault(event_id, []).append((number, outcome))
        stored = {encode(Prefix.LEAD, UUID(key)) for (key,) in connection.execute("SELECT id FROM lead")}
        query = "SELECT count(*) FROM ringback_event WHERE worker_id IS NOT NULL"
        under_way = connection.execute(query).fetchone()[0]

    created = {object_id for _, _, _, action, object_id, _ in events if action == "CREATED"}
    updated = {
        (object_id, json.loads(item)["name"]) for _, _, _, action, object_id, item in events if action == "UPDATED"
    }
    assert load.created <= stored, "acknowledged leads are gone"
    assert created == stored, "a lead without its event, or an event without its lead"
    assert {(lead, name) for name, lead in load.updated.items()} <= updated, "acknowledged updates have no event"
    assert under_way == 0
    assert not [failure for failure in load.failures if failure.startswith("AssertionError")], load.failures
    for event_id, status, count, *_ in events:
        numbers = [number for number, _ in attempts[event_id]]
        outcomes = [outcome for _, outcome in attempts[event_id]]
        assert numbers == list(range(1, count + 1)), "a number is missing"
        assert status == "SUCCEEDED", outcomes
        assert outcomes.count("DELIVERED") == 1
        assert outcomes[-1] == "DELIVERED"
        assert 1 <= receiver.seen[encode(Prefix.EVENT, UUID(event_id))] <= count, (
            "a request without an attempt on record"
        )
    assert {decode(Prefix.EVENT, name) for name in receiver.seen} == {UUID(event_id) for event_id, *_ in events}


def _report(
    program: Program, receiver: Receiver, load: Load, by_kill: Counter[str], by_event: Counter[str], seconds: float
) -> None:
    with open_database(program) as connection:
        outcomes = dict(connection.execute("SELECT outcome, count(*) FROM ringback_attempt GROUP BY outcome"))
        statuses = dict(connection.execute("SELECT status, count(*) FROM ringback_event GROUP BY status"))
    twice = sum(1 for name, seen in receiver.seen.items() if seen - receiver.refused[name] > 1)
    lines = [
        f"{KILLS} kills in {seconds:.0f} s, seed {SEED}",
        f"acknowledged: {len(load.created)} created, {len(load.updated)} updated; not answered: {dict(load.failures)}",
        f"events: {statuses}; attempts: {outcomes}; events that were accepted more than once: {twice}",
        "phase (the deepest of any event)     kills   events in it at a kill",
        *(f"  {phase:<34} {by_kill[phase]:>5}   {by_event[phase]:>5}" for phase in PHASES),
    ]
    print("\n" + "\n".join(lines))
