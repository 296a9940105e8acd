"""The live log has no gap: who drops and resumes at random sees every entry once, in the order of the commits.

Eight processes write to the database of a started program, all at the same time; who began first does not commit
first, and some transactions are rolled back. Subscribers follow over WebSockets and Server-Sent Events, and within this
process by a tailer of its own, as another api process would.

RINGBACK_TEST_ENTRIES sets how many entries are written, 10,000 for the whole proof.
"""

import asyncio
import json
import os
import random
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from pathlib import Path
from typing import TypeAlias

import aiohttp

from ringback.graphql_api.context.live_log import Tailer
from ringback.models import delivery_log
from ringback.models.bootstrap import open_tortoise, tortoise_config
from ringback.models.database.backends import SqliteFile
from ringback.models.delivery_log import LogFilter, Position
from tests.support.program import Program

ENTRIES = int(os.environ.get("RINGBACK_TEST_ENTRIES", "2000"))
SEED = int(os.environ.get("RINGBACK_TEST_SEED", "0")) or time.time_ns() % 1_000_000
WRITERS = 8
#: Subscribers of each kind.
SUBSCRIBERS = 4
#: How long all of it may take, in seconds.
PATIENCE = 60 + ENTRIES / 50
DOCUMENT = "subscription ($after: String) { deliveryLog(after: $after) { cursor message } }"
WRITER = Path(__file__).parent / "log_writer.py"

#: An entry as a subscriber sees it: its cursor and its message.
Seen: TypeAlias = tuple[str, str]
#: A way to follow the log after a cursor.
Follow: TypeAlias = Callable[[str], AsyncGenerator[Seen, None]]


def over_websocket(program: Program, session: aiohttp.ClientSession) -> Follow:
    async def follow(after: str) -> AsyncGenerator[Seen, None]:
        async with session.ws_connect(program.url + "/graphql", protocols=["graphql-transport-ws"]) as socket:
            authorization = {"Authorization": f"Bearer {program.token}"}
            await socket.send_json({"type": "connection_init", "payload": authorization})
            assert (await socket.receive_json())["type"] == "connection_ack"
            payload = {"query": DOCUMENT, "variables": {"after": after}}
            await socket.send_json({"type": "subscribe", "id": "1", "payload": payload})
            while True:
                message = await socket.receive_json()
                assert message["type"] == "next", message
                entry = message["payload"]["data"]["deliveryLog"]
                yield entry["cursor"], entry["message"]

    return follow


def over_events(program: Program, session: aiohttp.ClientSession) -> Follow:
    async def follow(after: str) -> AsyncGenerator[Seen, None]:
        headers = {"Authorization": f"Bearer {program.token}", "Accept": "text/event-stream"}
        request = {"query": DOCUMENT, "variables": {"after": after}}
        async with session.post(program.url + "/graphql", json=request, headers=headers) as response:
            assert response.status == 200
            async for line in response.content:
                if line.startswith(b"data: "):
                    entry = json.loads(line.removeprefix(b"data: "))["data"]["deliveryLog"]
                    yield entry["cursor"], entry["message"]

    return follow


def in_this_process(tailer: Tailer) -> Follow:
    async def follow(after: str) -> AsyncGenerator[Seen, None]:
        async with aclosing(tailer.follow(LogFilter(), Position.parse(after))) as bursts:
            async for burst in bursts:
                for tailed in burst:
                    yield tailed.position.cursor(), tailed.entry.message

    return follow


class Subscriber:
    """Follows from the beginning, and drops and resumes at random until it has seen so many entries."""

    def __init__(self, follow: Follow, beginning: str, seed: int) -> None:
        self._follow = follow
        self._cursor = beginning
        self._chance = random.Random(seed)
        self.seen: list[str] = []
        self.drops = 0

    async def run(self) -> None:
        while len(self.seen) < ENTRIES:
            wanted = min(self._chance.choice([1, 5, 50, 200, 600]), ENTRIES - len(self.seen))
            async with aclosing(self._follow(self._cursor)) as following:
                for _ in range(wanted):
                    self._cursor, message = await anext(following)
                    self.seen.append(message)
            self.drops += 1
            if self._chance.random() < 0.5:
                await asyncio.sleep(self._chance.random() * 0.2)


@asynccontextmanager
async def tailing(path: Path) -> AsyncIterator[Tailer]:
    async with open_tortoise(tortoise_config(SqliteFile(path))):
        tailer = Tailer(await delivery_log.read_epoch())
        running = asyncio.create_task(tailer.run())
        try:
            yield tailer
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running


async def test_subscribers_that_drop_and_resume_see_every_entry_once_in_commit_order(tmp_path: Path) -> None:
    began = time.monotonic()
    with Program(tmp_path, "api") as program:
        path = program.data_dir / "ringback.db"
        writers = [start_writer(path, number) for number in range(WRITERS)]
        try:
            async with tailing(path) as tailer, aiohttp.ClientSession() as session, asyncio.timeout(PATIENCE):
                beginning = Position(await delivery_log.read_epoch(), 0, 0).cursor()
                ways = [over_websocket(program, session), over_events(program, session), in_this_process(tailer)]
                subscribers = [
                    Subscriber(way, beginning, SEED + number)
                    for number, way in enumerate(way for way in ways for _ in range(SUBSCRIBERS))
                ]
                for writer in writers:
                    assert writer.stdout is not None
                    assert await asyncio.to_thread(writer.stdout.readline) == "ready\n"
                for writer in writers:
                    assert writer.stdin is not None
                    print(file=writer.stdin, flush=True)
                await asyncio.gather(*(subscriber.run() for subscriber in subscribers))
                assert [await asyncio.to_thread(writer.wait) for writer in writers] == [0] * WRITERS
        finally:
            for writer in writers:
                writer.kill()
                writer.communicate()
        committed = in_commit_order(path)
    late, rolled_back = disorder(committed), committed[-1][0] - len(committed)
    report(subscribers, late, time.monotonic() - began)
    assert len(committed) == ENTRIES
    assert late > 0, "no transaction committed after one that had begun later: nothing was proved"
    assert rolled_back == 0, "SQLite gives the numbers of a rolled-back transaction again"
    messages = [message for _, message in committed]
    for subscriber in subscribers:
        assert subscriber.seen == messages


def start_writer(path: Path, number: int) -> "subprocess.Popen[str]":
    share = ENTRIES // WRITERS + (number < ENTRIES % WRITERS)
    command = [sys.executable, str(WRITER), str(path), str(number), str(share), str(SEED + number)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def in_commit_order(path: Path) -> list[tuple[int, str]]:
    connection = sqlite3.connect(path)
    try:
        return connection.execute("SELECT id, message FROM ringback_log ORDER BY id").fetchall()
    finally:
        connection.close()


def disorder(committed: list[tuple[int, str]]) -> int:
    """How many transactions committed after one that had begun later."""
    begun: dict[str, float] = {}
    for _, message in committed:
        name, time_begun = message.split()
        begun.setdefault(name.rpartition(".")[0], float(time_begun))
    latest, late = 0.0, 0
    for moment in begun.values():
        late += moment < latest
        latest = max(latest, moment)
    return late


def report(subscribers: list[Subscriber], late: int, seconds: float) -> None:
    kinds = ("WebSocket", "Server-Sent Events", "in process")
    lines = [
        f"{ENTRIES:,} entries by {WRITERS} processes in {seconds:.0f} s, seed {SEED}",
        f"transactions that committed after one that had begun later: {late}",
        *(
            f"  {SUBSCRIBERS} subscribers, {kind}: {sum(one.drops for one in some):,} drops, "
            f"{sum(len(one.seen) for one in some):,} entries seen"
            for kind, some in zip(
                kinds, (subscribers[n : n + SUBSCRIBERS] for n in range(0, len(subscribers), SUBSCRIBERS)), strict=True
            )
        ),
    ]
    print("\n" + "\n".join(lines))
