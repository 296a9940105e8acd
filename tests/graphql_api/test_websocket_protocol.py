"""WebSocket frames: malformed frames, floods of frames, and peers that do not read or are gone."""

import asyncio
import gc
import json
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
import uvloop
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.frames import Frame, Opcode

from ringback.graphql_api.listener.byte_budget import ByteBudget
from ringback.graphql_api.websocket_protocol import MAX_UNAUTHENTICATED_BYTES, MESSAGE_COPIES, WebSocketProtocol
from tests.support.eventually import eventually
from tests.support.lag import share_of_allowed
from tests.support.live_log import CURSORS
from tests.support.patience import PATIENCE_SECONDS
from tests.support.program import ADMIN_TOKEN, Program
from tests.support.raw_http import connect as connect_raw
from tests.support.raw_http import read_to_end
from tests.support.raw_websocket import HANDSHAKE, RawSocket
from tests.support.websocket_client import PROTOCOL, closed, init, received, serving, subscribe

PING = b'{"type":"ping"}'
PONG = (Opcode.TEXT, b'{"type":"pong"}')
INIT = b'{"type":"connection_init","payload":{"Authorization":"Bearer %s"}}' % ADMIN_TOKEN.encode()
MEBIBYTE = 1024 * 1024
#: The longest message of these tests, in bytes.
LIMIT = 65_536
#: Leaves the line about the start out of the log.
ONLY_WARNINGS = {"RINGBACK_LOG_LEVEL": "WARNING"}


@pytest.fixture(scope="module")
def program(migrated: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """Yield one program for all tests of this module. None of them may harm it."""
    env = {"RINGBACK_API_MAX_BODY_BYTES": str(LIMIT), **ONLY_WARNINGS}
    with Program(tmp_path_factory.mktemp("program"), env=env, migrated=migrated) as started:
        yield started


def text(data: bytes, *, fin: bool = True) -> Frame:
    return Frame(Opcode.TEXT, data, fin)


def more(data: bytes, *, fin: bool = False) -> Frame:
    return Frame(Opcode.CONT, data, fin)


def close_code(client: RawSocket) -> int:
    """Return the code of the close frame, or 1006 where a reset hides it."""
    try:
        return client.closed()[0]
    except (EOFError, ConnectionError):
        return 1006


@pytest.mark.parametrize("length", [LIMIT + 1, 40 * MEBIBYTE])
def test_a_message_that_is_too_long_ends_the_connection(program: Program, length: int) -> None:
    with RawSocket(program.url) as client:
        client.send(text(PING.ljust(LIMIT)))
        assert client.frame() == PONG

        with suppress(ConnectionError):
            client.send(text(b"x" * length))

        assert close_code(client) in (1009, 1006)
    assert program.log() == ""


def test_fragments_that_are_too_long_together_end_the_connection(program: Program) -> None:
    half = b" " * (LIMIT // 2)
    with RawSocket(program.url) as client:
        client.send(text(PING, fin=False), more(half[len(PING) :]), more(half, fin=True))
        assert client.frame() == PONG

        client.send(text(PING, fin=False), more(half), more(half), more(b"", fin=True), text(PING))

        assert close_code(client) in (1009, 1006)
    assert program.log() == ""


def test_fragments_of_any_number_and_size_make_one_message(program: Program) -> None:
    with RawSocket(program.url) as client:
        client.send(text(b"", fin=False), *(more(b"") for _ in range(10_000)))
        client.send(*(piece for byte in PING for piece in (more(bytes([byte])), Frame(Opcode.PING, b"between"))))
        client.send(more(b"", fin=True))
        frames = [client.frame() for _ in range(len(PING) + 1)]
        assert frames == [(Opcode.PONG, b"between")] * len(PING) + [PONG]


@pytest.mark.parametrize("frames", [
    [text(b'{"type":"\xff"}')],
    [text(b'{"type":"\xed\xa0\x80"}')],
    [text(b'{"type":"', fin=False), more(b"\xff", fin=True)],
    [text(b"\xff"), text(PING), text(PING)],
])  # fmt: skip
def test_text_that_is_not_utf8_ends_the_connection(program: Program, frames: list[Frame]) -> None:
    with RawSocket(program.url) as client:
        client.send(*frames)

        assert close_code(client) in (1007, 1006)
    assert program.log() == ""


async def test_a_long_message_before_connection_init_ends_the_connection() -> None:
    too_long = b"\x81\xff" + (MAX_UNAUTHENTICATED_BYTES + 1).to_bytes(8) + b"\0\0\0\0"
    async with serving(Chatty(None)) as port:
        with await raw_socket(port) as client:
            client.socket.sendall(too_long)
            opcode, data = await asyncio.to_thread(client.frame)
            assert (opcode, int.from_bytes(data[:2])) == (Opcode.CLOSE, 1009)


def test_a_handshake_that_websockets_refuses_is_answered(program: Program) -> None:
    with closing(connect_raw(program)) as client:
        client.sendall(HANDSHAKE.replace("\r\n\r\n", f"\r\nCookie: {'x' * 9_000}\r\n\r\n").encode())
        assert read_to_end(client).startswith(b"HTTP/1.1 431 ")


@pytest.mark.parametrize("body", ["Content-Length: 3\r\n\r\nabc", "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"])
def test_a_handshake_with_a_body_is_answered(program: Program, body: str) -> None:
    with closing(connect_raw(program)) as client:
        client.sendall(HANDSHAKE.removesuffix("\r\n").encode() + body.encode())
        assert read_to_end(client).startswith(b"HTTP/1.1 400 ")


async def test_the_head_of_a_handshake_is_not_kept(opened: list[WebSocketProtocol]) -> None:
    async with serving(Chatty(None)) as port:
        with await raw_socket(port):
            assert not hasattr(opened[0], "request")


async def test_an_application_that_refuses_the_handshake_sends_the_headers_of_every_response() -> None:
    refusal = PlainTextResponse("No.", 429, {"Retry-After": "1"})

    async with serving(refusal, headers=[("X-Content-Type-Options", "nosniff")]) as port:
        with pytest.raises(InvalidStatus) as refused:
            await connect(f"ws://127.0.0.1:{port}/")

    response = refused.value.response
    assert (response.status_code, response.body) == (429, b"No.")
    assert response.headers.get_all("X-Content-Type-Options") == ["nosniff"]
    assert response.headers.get_all("Retry-After") == ["1"]


def test_a_flood_of_messages_is_answered_in_order(program: Program) -> None:
    count = 20_000
    pings = [text(b'{"type":"ping","payload":{"n":%d}}' % number) for number in range(count)]
    with RawSocket(program.url) as client, ThreadPoolExecutor(1) as thread:
        sending = thread.submit(client.send, *pings)
        for number in range(count):
            assert client.frame() == (Opcode.TEXT, b'{"type":"pong","payload":{"n":%d}}' % number)
        sending.result()


@pytest.mark.parametrize("frame", [Frame(Opcode.PING, b""), more(b"")], ids=["pings", "fragments"])
@pytest.mark.measures_cpu
def test_a_flood_of_tiny_frames_does_not_block_the_loop(frame: Frame) -> None:
    """The flood blocks stock uvicorn for seconds, since uvloop reads up to 8 MB per turn."""
    start, end = text(b"", fin=False), Frame(Opcode.PING, b"end")
    tiny = frame.serialize(mask=True) * 400_000
    flood = start.serialize(mask=True) + tiny + end.serialize(mask=True)

    def send_and_read(port: int) -> None:
        with RawSocket(f"http://127.0.0.1:{port}") as client, ThreadPoolExecutor(1) as thread:
            sending = thread.submit(client.socket.sendall, flood)
            tail = b""
            while tail != b"end":
                tail = (tail + client.socket.recv(MEBIBYTE))[-3:]
            sending.result()

    async def send_flood() -> None:
        async with serving(Chatty(None)) as port:
            await asyncio.to_thread(send_and_read, port)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(share_of_allowed(send_flood, limit=10)) < 10


def test_a_character_may_be_split_between_fragments(program: Program) -> None:
    ping = json.dumps({"type": "ping", "payload": {"x": "é"}}, ensure_ascii=False).encode()
    cut = ping.index("é".encode()) + 1
    with RawSocket(program.url) as client:
        client.send(text(ping[:cut], fin=False), more(ping[cut:], fin=True))
        assert client.frame() == (Opcode.TEXT, '{"type":"pong","payload":{"x":"é"}}'.encode())


@pytest.mark.parametrize("data", [b"\xc1\x80\0\0\0\0", b"\x83\x80\0\0\0\0", b"\x81\x01x", b"\x09\x80\0\0\0\0"])
def test_malformed_frames_end_the_connection(program: Program, data: bytes) -> None:
    """Reserved bits, a reserved opcode, no mask, a fragmented control frame."""
    with RawSocket(program.url) as client:
        client.socket.sendall(data)

        assert close_code(client) in (1002, 1006)
    assert program.log() == ""


async def test_stopping_the_program_closes_with_1012(tmp_path: Path, migrated: Path) -> None:
    """Clients of graphql-ws reconnect after 1012, but not after many other codes."""
    program = Program(tmp_path, env=ONLY_WARNINGS, migrated=migrated)
    await asyncio.to_thread(program.start)
    async with connect(program.url.replace("http", "ws", 1) + "/graphql", subprotocols=[PROTOCOL]) as connection:
        await init(connection, program.token)
        for number in range(5):
            await subscribe(connection, CURSORS, str(number))
        await subscribe(connection, "{ __typename }", "asked")
        assert (await received(connection))["id"] == "asked"
        assert (await received(connection))["type"] == "complete"
        assert program.process is not None
        program.process.send_signal(signal.SIGTERM)
        assert (await closed(connection))[0] == 1012
    # A second SIGTERM that arrives when the program has restored the default handlers would end it with -15.
    assert await asyncio.to_thread(program.wait) == 0
    assert program.log() == ""


def test_a_peer_that_does_not_read_does_not_delay_the_shutdown(tmp_path: Path, migrated: Path) -> None:
    ping = text(json.dumps({"type": "ping", "payload": {"x": "x" * 900_000}}).encode())
    program = Program(tmp_path, env=ONLY_WARNINGS, migrated=migrated)
    with program, RawSocket(program.url, 4_096) as client:
        client.send(text(INIT))
        assert client.frame() == (Opcode.TEXT, b'{"type":"connection_ack"}')
        client.socket.settimeout(0.5)
        with pytest.raises(TimeoutError):  # the program stops reading while its responses are not read
            client.send(*[ping] * 20)
        assert program.stop() == 0
        assert program.log() == ""


class Chatty:
    """An application that sends `frame` as fast as possible, or nothing. `ended` gets the end of the connection."""

    def __init__(self, frame: str | None) -> None:
        self.frame = frame
        self.ended: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept", "subprotocol": PROTOCOL})
        try:
            while self.frame is not None:
                await send({"type": "websocket.send", "text": self.frame})
        except OSError as error:
            self.ended.set_result(error)
        else:
            self.ended.set_result(await receive())


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[WebSocketProtocol]:
    """Return the list of opened connections, with a short close timeout."""
    connections: list[WebSocketProtocol] = []

    def connection_made(self: WebSocketProtocol, transport: asyncio.BaseTransport) -> None:
        self.close_timeout = 0.2
        connections.append(self)
        WebSocketsSansIOProtocol.connection_made(self, transport)

    monkeypatch.setattr(WebSocketProtocol, "connection_made", connection_made, raising=False)
    return connections


async def wait_until_closed(opened: list[WebSocketProtocol]) -> None:
    """Wait until the only connection and its socket are closed."""
    (connection,) = opened
    async with asyncio.timeout(PATIENCE_SECONDS):
        while connection in connection.connections:
            await asyncio.sleep(0.01)


async def raw_socket(port: int) -> RawSocket:
    """Open a client with a small receive buffer."""
    return await asyncio.to_thread(RawSocket, f"http://127.0.0.1:{port}", 4_096)


@pytest.mark.parametrize("frame", [None, "x" * 10_000], ids=["idle", "does-not-read"])
async def test_a_peer_that_does_not_answer_pings_is_disconnected(
    opened: list[WebSocketProtocol], frame: str | None
) -> None:
    """Also if its socket is full, so that no close frame reaches it."""
    app = Chatty(frame)
    async with serving(app, ws_ping_interval=0.1, ws_ping_timeout=0.1) as port:
        with await raw_socket(port) as client:
            await wait_until_closed(opened)
            if frame is None:
                assert client.frame()[0] is Opcode.PING
                assert client.closed() == (1001, "no answer to a ping")
                assert await app.ended == {
                    "type": "websocket.disconnect",
                    "code": 1001,
                    "reason": "no answer to a ping",
                }
            else:
                assert isinstance(await app.ended, OSError)


async def test_a_peer_that_does_not_read_its_close_frame_is_disconnected(opened: list[WebSocketProtocol]) -> None:
    """The application has finished and the peer is alive, so nothing else would close the connection."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept", "subprotocol": PROTOCOL})
        while opened[0].writable.is_set():
            await send({"type": "websocket.send", "text": "x" * 10_000})
        opened[0].writable.set()
        await send({"type": "websocket.close", "code": 4400})

    async with serving(app, ws_ping_interval=None) as port:
        with await raw_socket(port):
            await wait_until_closed(opened)


@pytest.mark.parametrize("fragment", [b"", b"x"])
async def test_tiny_fragments_are_joined(opened: list[WebSocketProtocol], fragment: bytes) -> None:
    async with serving(Chatty(None)) as port:
        with await raw_socket(port) as client:
            client.send(text(b"", fin=False), *(more(fragment) for _ in range(5_000)), Frame(Opcode.PING, b"seen"))
            assert await asyncio.to_thread(client.frame) == (Opcode.PONG, b"seen")
            assert opened[0].frames == []
            assert opened[0].count_held_bytes() == 5_000 * len(fragment)


async def test_a_peer_that_answers_pings_stays_connected(opened: list[WebSocketProtocol]) -> None:
    app = Chatty(None)
    async with serving(app, ws_ping_interval=0.01, ws_ping_timeout=PATIENCE_SECONDS) as port:
        with await raw_socket(port) as client:
            for _ in range(20):
                opcode, data = await asyncio.to_thread(client.frame)
                assert opcode is Opcode.PING
                client.send(Frame(Opcode.PONG, data))
            assert not app.ended.done()


async def test_pings_of_a_peer_that_does_not_read_are_not_stored(opened: list[WebSocketProtocol]) -> None:
    """The latest ping is answered once the peer reads."""
    pings = Frame(Opcode.PING, b"x" * 125).serialize(mask=True) * 100_000
    latest = Frame(Opcode.PING, b"latest").serialize(mask=True)

    async with serving(Chatty(None)) as port:
        with await raw_socket(port) as client:
            await asyncio.to_thread(client.socket.sendall, pings + latest)
            buffered_bytes = opened[0].transport.get_write_buffer_size()
            while await asyncio.to_thread(client.frame) != (Opcode.PONG, b"latest"):
                pass

    assert buffered_bytes < MEBIBYTE


async def test_messages_that_wait_for_the_application_are_held_as_bytes(opened: list[WebSocketProtocol]) -> None:
    """Parsed, an empty message takes 32 times as much. None waits any longer once the application has closed."""
    count = 10_000
    messages = text(b"").serialize(mask=True) * count
    may_read, has_read, may_close = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept", "subprotocol": PROTOCOL})
        await may_read.wait()
        for _ in range(count):
            assert await receive() == {"type": "websocket.receive", "text": ""}
        has_read.set()
        await may_close.wait()
        await send({"type": "websocket.close", "code": 4400})

    async def wait_until_received(connection: WebSocketProtocol) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while connection.count_held_bytes() < len(messages) * 0.9:
                await asyncio.sleep(0.01)

    async with serving(app) as port:
        with await raw_socket(port) as client:
            await asyncio.to_thread(client.socket.sendall, messages)
            (connection,) = opened
            await wait_until_received(connection)
            assert connection.queue.qsize() < 200

            may_read.set()
            async with asyncio.timeout(PATIENCE_SECONDS):
                await has_read.wait()
            assert connection.count_held_bytes() == 0

            await asyncio.to_thread(client.socket.sendall, messages)
            await wait_until_received(connection)
            may_close.set()
            assert await asyncio.to_thread(client.frame) == (Opcode.CLOSE, (4400).to_bytes(2))
            await asyncio.sleep(0)
            while not connection.queue.empty():
                assert connection.queue.get_nowait()["type"] == "websocket.disconnect"
            assert connection.count_held_bytes() == 0


async def test_a_failed_connection_holds_no_bytes(opened: list[WebSocketProtocol]) -> None:
    async with serving(Chatty(None)) as port:
        with await raw_socket(port) as client:
            client.send(text(b"\xff"), *[text(b"")] * 1_000)
            assert (await asyncio.to_thread(client.frame))[0] is Opcode.CLOSE
            assert opened[0].count_held_bytes() == 0


async def test_messages_that_the_application_does_not_read_are_limited(opened: list[WebSocketProtocol]) -> None:
    """The connection whose message waits longest is closed."""
    message = text(b"x" * 10_000)
    may_end = asyncio.Event()
    budget = ByteBudget(15_000)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept", "subprotocol": PROTOCOL})
        await may_end.wait()

    async with serving(app, budget=budget) as port:
        with await raw_socket(port) as first, await raw_socket(port) as second:
            first.send(message)
            await eventually(lambda: budget.total > 10_000)
            second.send(message)
            opcode, data = await asyncio.to_thread(first.frame)

            assert (opcode, int.from_bytes(data[:2])) == (Opcode.CLOSE, 1013)
            assert [connection.count_held_bytes() > 10_000 for connection in opened] == [False, True]
            assert 10_000 < budget.total < 15_000
            may_end.set()


async def test_a_peer_that_does_not_read_makes_room_for_others(opened: list[WebSocketProtocol]) -> None:
    """What it has not read and what waits behind that count."""
    message = "x" * 4_000_000
    budget = ByteBudget(50_000_000)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept", "subprotocol": PROTOCOL})
        with suppress(OSError):
            for _ in range(2):
                await send({"type": "websocket.send", "text": message})

    async with serving(app, budget=budget) as port:
        with await raw_socket(port):
            await eventually(lambda: budget.total > MESSAGE_COPIES * len(message))
            assert budget.total < (MESSAGE_COPIES + 1) * len(message) + 100
            budget.hold(Stranger(), 49_000_000)

            await wait_until_closed(opened)
            await eventually(lambda: budget.total == 49_000_000)


class Stranger:
    """Another holder of bytes, which cannot be freed."""

    def count_held_bytes(self) -> int:
        return 49_000_000

    def free_held_bytes(self) -> bool:
        return False


async def test_an_idle_connection_does_not_keep_its_last_frame() -> None:
    has_read, may_end = asyncio.Event(), asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept", "subprotocol": PROTOCOL})
        for _ in range(2):
            await receive()
        has_read.set()
        await may_end.wait()

    async with serving(app) as port:
        with await raw_socket(port) as client:
            client.send(text(b"x" * 10_000), text(b"x", fin=False), more(b"x" * 10_000, fin=True))
            async with asyncio.timeout(PATIENCE_SECONDS):
                await has_read.wait()

            assert [item for item in gc.get_objects() if type(item) is Frame and len(item.data) == 10_000] == []
            may_end.set()
