"""Many real endpoints on loopback, each with its own path, in a thread of the test's process.

`/wait/MS/…` responds after that many milliseconds, `/hang/…` never, all others at once. The arrival of each request and
the most requests in flight are recorded for each path.
"""

import asyncio
import threading
import time
from collections import Counter, defaultdict
from types import TracebackType
from typing import Self

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


class Endpoints:
    """`with Endpoints() as endpoints:` listens below `endpoints.url`."""

    def __init__(self) -> None:
        self.url = ""
        #: Event id and arrival of each request, by path. Times are of the monotonic clock.
        self.arrivals: defaultdict[str, list[tuple[str, float]]] = defaultdict(list)
        #: The most requests in flight at the same time, by path.
        self.peaks: Counter[str] = Counter()
        self._in_flight: Counter[str] = Counter()
        self._listening = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._closing = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._listening.wait(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._closing.set)
        self._thread.join()
        self._loop.close()

    def came(self, path: str) -> dict[str, float]:
        """When each event came to a path; the first time, if it came more often."""
        found: dict[str, float] = {}
        for event_id, moment in list(self.arrivals[path]):
            found.setdefault(event_id, moment)
        return found

    async def _serve(self) -> None:
        connections: set[asyncio.Task[None]] = set()

        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.create_task(self._connection(reader, writer))
            connections.add(task)
            task.add_done_callback(connections.discard)

        server = await asyncio.start_server(connected, "127.0.0.1", 0, backlog=1_024)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        self._listening.set()
        await self._closing.wait()
        server.close()
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                await self._request(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client has gone
        finally:
            writer.close()

    async def _request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
        await reader.readexactly(int(headers.get("content-length", 0)))
        path = lines[0].split(" ")[1]
        self.arrivals[path].append((headers["webhook-id"], time.monotonic()))
        self._in_flight[path] += 1
        self.peaks[path] = max(self.peaks[path], self._in_flight[path])
        try:
            if path.startswith("/hang/"):
                await reader.readexactly(1)
            elif path.startswith("/wait/"):
                await asyncio.sleep(int(path.split("/")[2]) / 1_000)
        finally:
            self._in_flight[path] -= 1
        writer.write(ANSWER)
