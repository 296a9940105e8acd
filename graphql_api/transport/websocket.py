"""GraphQL over WebSockets: graphql-transport-ws on /graphql, exactly as graphql-ws's PROTOCOL.md has it.

Strawberry's handler ends malformed messages with 1006 and a traceback; this one closes with the code that the protocol
gives to each. One task reads, and one task runs each operation. Every frame is written whole and only when the socket
takes it, so frames never interleave, and what a client does not read waits in its operations and not in memory.
`frames.py`, below this module, ends connections whose peer is gone or does not read.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress

import structlog
from starlette.types import Receive, Scope, Send

from ringback.graphql_api.context.request_context import Context, Services
from ringback.graphql_api.errors import to_graphql_error
from ringback.graphql_api.execution.engine import (
    Engine,
    ExecutionResponse,
    OperationType,
    RequestRefused,
    error_response,
)
from ringback.graphql_api.execution.operation_limits import limit_exceeded
from ringback.graphql_api.transport.graphql_transport_ws import (
    ACK,
    PROTOCOL,
    Complete,
    ConnectionInit,
    InvalidMessage,
    MessageWriter,
    Ping,
    Pong,
    Subscribe,
    parse,
    pong,
)
from ringback.models.ids import new_key

logger = structlog.get_logger("ringback.api")

#: How long a client may take to send connection_init, in seconds; as in graphql-ws.
INIT_SECONDS = 3.0
#: The longest close reason, in bytes: a control frame holds 125, two of them the code (RFC 6455, 5.5).
MAX_REASON_BYTES = 123
#: After so many frames, an operation that never has to wait leaves the event loop to others.
FRAMES_AT_A_TIME = 16


class _Closed(Exception):
    """The server ends the connection, with a code and a reason."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason.encode()[:MAX_REASON_BYTES].decode(errors="ignore")


class _Gone(Exception):
    """The client has left, or was lost."""


async def serve_connection(engine: Engine, services: Services, scope: Scope, receive: Receive, send: Send) -> None:
    """Serve all operations over one connection. Any origin may connect: what counts is the token, not a cookie."""
    connection = _Connection(engine, services, receive, send)
    with suppress(_Gone):
        try:
            await connection.serve(scope["subprotocols"])
        except _Closed as closed:
            await connection.send({"type": "websocket.close", "code": closed.code, "reason": closed.reason})
        finally:
            await connection.ended()


class _Connection:
    def __init__(self, engine: Engine, services: Services, receive: Receive, send: Send) -> None:
        self._engine = engine
        self._services = services
        self._receive = receive
        self._send = send
        self._context: Context | None = None
        self._operations: dict[str, asyncio.Task[None]] = {}
        #: Those that run, and those that were stopped and have not ended yet.
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, offered: list[str]) -> None:
        """Read until the client is gone; raises _Closed where the connection is to be closed."""
        await self._receive()
        if PROTOCOL not in offered:
            # As graphql-ws does it: a refused handshake would not tell the client why.
            await self.send({"type": "websocket.accept"})
            raise _Closed(4406, "Subprotocol not acceptable")
        await self.send({"type": "websocket.accept", "subprotocol": PROTOCOL})
        try:
            try:
                async with asyncio.timeout(INIT_SECONDS) as waiting:
                    await self._read(waiting)
            finally:
                self._stop_all()
        except TimeoutError as error:
            raise _Closed(4408, "Connection initialisation timeout") from error

    async def ended(self) -> None:
        """Wait until all operations have ended; nothing of theirs is sent any more."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def send(self, event: dict[str, object]) -> None:
        """Send as soon as the client takes it; raises _Gone when it is not there."""
        try:
            await self._send(event)
        except OSError as error:
            raise _Gone from error

    async def _send_text(self, text: str) -> None:
        await self.send({"type": "websocket.send", "text": text})

    def _stop_all(self) -> None:
        for task in self._tasks:
            task.cancel()

    async def _read(self, waiting: asyncio.Timeout) -> None:
        """Handle message after message; `waiting` ends when connection_init has come."""
        while True:
            event = await self._receive()
            if event["type"] == "websocket.disconnect":
                return
            text = event.get("text")
            if text is None:
                raise _Closed(4400, "Invalid message: it is binary; send JSON as text")
            try:
                message = parse(text)
            except InvalidMessage as invalid:
                raise _Closed(4400, f"Invalid message: {invalid}") from invalid
            match message:
                case ConnectionInit():
                    waiting.reschedule(None)
                    await self._init(message)
                case Ping():
                    await self._send_text(pong(message.payload))
                case Pong():
                    pass
                case Subscribe():
                    await self._subscribe(message)
                case Complete():
                    self._complete(message)
            # What was received at once is handled in turns with what others sent.
            await asyncio.sleep(0)

    async def _init(self, message: ConnectionInit) -> None:
        if self._context is not None:
            raise _Closed(4429, "Too many initialisation requests")
        try:
            token = await self._services.bearers.of_connection(message.payload)
        except Exception as error:
            error_id = new_key().hex
            logger.exception("cannot authenticate", action="connect", error_id=error_id)
            # 1013: clients try again, which they do not after 1011 or 4500.
            raise _Closed(1013, f"Something went wrong (id {error_id}); try again later") from error
        if token is None:
            raise _Closed(4403, "Forbidden")
        self._context = Context(self._services, token)
        await self._send_text(ACK)

    async def _subscribe(self, message: Subscribe) -> None:
        if self._context is None:
            raise _Closed(4401, "Unauthorized")
        if message.id in self._operations:
            raise _Closed(4409, f"Subscriber for {message.id} already exists")
        allowed = self._engine.limits.subscriptions_per_connection
        if len(self._operations) >= allowed:
            sentence = f"{allowed:,} operations run over this connection, which is the limit: complete one first."
            error = limit_exceeded("subscriptionsPerConnection", allowed, sentence)
            await self._send_text(MessageWriter(message.id).error([error]))
            return
        while len(self._tasks) >= allowed:
            stopped = self._tasks.difference(self._operations.values())
            await asyncio.wait(stopped, return_when=asyncio.FIRST_COMPLETED)
        task = asyncio.create_task(self._run(message, self._context))
        self._operations[message.id] = task
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _complete(self, message: Complete) -> None:
        """Stop an operation; its id is free at once, and nothing more is sent for it. Unknown ids are ignored."""
        task = self._operations.pop(message.id, None)
        if task is not None:
            task.cancel()

    async def _run(self, message: Subscribe, context: Context) -> None:
        frames = MessageWriter(message.id)
        try:
            with suppress(_Gone):
                await self._send_text(await self._answered(message, context, frames))
        finally:
            # The last frame is written without a turn of others in between: who reads it may use the id again.
            if self._operations.get(message.id) is asyncio.current_task():
                del self._operations[message.id]

    async def _answered(self, message: Subscribe, context: Context, frames: MessageWriter) -> str:
        """Send the results of an operation; returns the frame that ends it."""
        sent = 0
        async with aclosing(self._answers(message, context)) as answers:
            async for answer in answers:
                if not answer.executed:
                    return frames.error(answer.errors)
                await self._send_text(frames.next(answer.text))
                sent += 1
                if sent % FRAMES_AT_A_TIME == 0:
                    await asyncio.sleep(0)
        return frames.complete()

    async def _answers(self, message: Subscribe, context: Context) -> AsyncGenerator[ExecutionResponse, None]:
        """What answers an operation of any kind, whatever goes wrong."""
        try:
            operation = await self._engine.operation(message.query, message.operation_name)
            if operation.kind is OperationType.SUBSCRIPTION:
                async with aclosing(self._engine.subscribe(operation, message.variables, context)) as answers:
                    async for answer in answers:
                        yield answer
            else:
                yield await self._engine.execute(operation, message.variables, context)
        except RequestRefused as refused:
            yield error_response(*refused.errors)
        except Exception as error:
            yield error_response(to_graphql_error(error))
