"""GraphQL over WebSockets: graphql-transport-ws at /graphql, as in graphql-ws's PROTOCOL.md.

Strawberry's handler closes malformed messages with 1006 and a traceback; this one uses the close codes of the protocol.
One task reads, and one task runs each operation. A message is written whole, once the socket accepts it: messages never
interleave, and a client that does not read stops its operations instead of filling memory. `websocket_protocol.py`
closes connections whose peer is gone or does not read.
"""

import asyncio
import sys
from collections.abc import AsyncGenerator
from contextlib import ExitStack, aclosing, suppress
from functools import partial

import structlog
from starlette.types import Message, Receive, Scope, Send

from ringback.graphql_api.context.request_context import Context, Services
from ringback.graphql_api.errors import ApiError, is_database_unreachable, to_graphql_error
from ringback.graphql_api.execution.engine import (
    Engine,
    ExecutionResponse,
    Operation,
    OperationType,
    RequestRefused,
    TooManyRequests,
    error_response,
)
from ringback.graphql_api.execution.operation_limits import limit_exceeded, too_many_messages
from ringback.graphql_api.listener.byte_budget import find_budget, release_request
from ringback.graphql_api.listener.client_slots import count_client_again, exempt_client
from ringback.graphql_api.transport.graphql_transport_ws import (
    ACK,
    PROTOCOL,
    Complete,
    ConnectionInit,
    InvalidMessage,
    Ping,
    Pong,
    Subscribe,
    parse,
    write_complete,
    write_error,
    write_next,
    write_pong,
)
from ringback.graphql_api.transport.graphql_transport_ws import Message as ClientMessage
from ringback.graphql_api.transport.held_messages import HeldMessages
from ringback.graphql_api.transport.json_limits import estimate_memory
from ringback.graphql_api.transport.streaming import HEARTBEAT_SECONDS
from ringback.models.ids import new_key

logger = structlog.get_logger("ringback.api")

#: Seconds that a client has to send connection_init, as in graphql-ws.
INIT_SECONDS = 3.0
#: Seconds between checks of the token of an idle connection, as for streams.
TOKEN_CHECK_SECONDS = HEARTBEAT_SECONDS
#: A control frame holds 125 bytes, and the close code takes two (RFC 6455, 5.5).
MAX_REASON_BYTES = 123
#: Number of operations of a closed connection that are stopped in one turn of the event loop.
OPERATIONS_PER_STOP = 8
#: Seconds before a document that the queue had no room for is offered again.
RETRY_SECONDS = 0.1
#: An operation that never waits yields to the event loop after this many messages.
MESSAGES_PER_TURN = 16
#: Characters of a message above which it is parsed in its token's turn: a megabyte takes 20 ms.
LONG_MESSAGE_CHARS = 4_096


class _CloseConnection(Exception):
    """A close by the server, with a code and a reason."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason.encode()[:MAX_REASON_BYTES].decode(errors="ignore")


class _ClientGone(Exception):
    """The client has closed or lost the connection."""


async def serve_connection(engine: Engine, services: Services, scope: Scope, receive: Receive, send: Send) -> None:
    """Serve one connection. Any origin may connect, because tokens and not cookies authenticate it."""
    release_request(scope)
    connection = _Connection(engine, services, scope, receive, send)
    close: dict[str, object] | None = None
    with suppress(_ClientGone):
        try:
            try:
                await connection.serve(scope["subprotocols"])
            except _CloseConnection as closed:
                close = {"type": "websocket.close", "code": closed.code, "reason": closed.reason}
            if close is not None:  # sent after the exception is gone, whose frames hold the last message
                await connection.send(close)
        finally:
            connection.release()
            await connection.wait_until_stopped()


class _Connection:
    """A connection and its running operations."""

    def __init__(self, engine: Engine, services: Services, scope: Scope, receive: Receive, send: Send) -> None:
        self._engine = engine
        self._services = services
        self._scope = scope
        self._receive = receive
        self._send = send
        self._context: Context | None = None
        #: When an idle connection's token is checked next, by the loop's clock. None before connection_init.
        self._token_check_at: float | None = None
        #: Counts the connection for its token.
        self._count = ExitStack()
        self._operations: dict[str, asyncio.Task[None]] = {}
        #: Running operations, and stopped ones that have not ended yet.
        self._tasks: set[asyncio.Task[None]] = set()
        self._messages = HeldMessages(find_budget(scope), self._drop)
        #: Ends the reading of messages. None after it has ended.
        self._reading: asyncio.Timeout | None = None
        self._is_dropped = False
        #: Held by the operation that tries again to have its document checked.
        self._retrying = asyncio.Lock()

    async def serve(self, offered: list[str]) -> None:
        """Read until the client disconnects. Raises _CloseConnection to close the connection."""
        await self._receive()
        if PROTOCOL not in offered:
            # As in graphql-ws: refusing the handshake would give the client no reason.
            await self.send({"type": "websocket.accept"})
            raise _CloseConnection(4406, "Subprotocol not acceptable")
        await self.send({"type": "websocket.accept", "subprotocol": PROTOCOL})
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(INIT_SECONDS) as self._reading:
                    return await self._read()
        finally:
            self._reading = None
            self._messages.remove(None)
            await self._stop_operations()
        if self._is_dropped:
            raise _CloseConnection(1013, "The server holds too many bytes. Try again later.")
        raise _CloseConnection(4408, "Connection initialisation timeout")

    def _drop(self) -> bool:
        """Close the connection, whose messages take too much memory. Return whether it was open."""
        if self._reading is None or self._reading.expired():
            return False
        self._is_dropped = True
        self._reading.reschedule(asyncio.get_running_loop().time())
        return True

    def release(self) -> None:
        """Stop counting the closing connection for its token, and count it for its address again."""
        self._count.close()
        count_client_again(self._scope)

    async def wait_until_stopped(self) -> None:
        """Wait until every operation has ended."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _stop_operations(self) -> None:
        """Stop every operation. Other work runs after every few of them, even if many connections close at once."""
        try:
            async with self._engine.stopping:
                for number, task in enumerate(tuple(self._tasks), 1):
                    task.cancel()
                    if number % OPERATIONS_PER_STOP == 0:
                        await asyncio.sleep(0)
        except asyncio.CancelledError:
            for task in self._tasks:
                task.cancel()
            raise

    async def send(self, event: dict[str, object]) -> None:
        """Send an ASGI message once the socket accepts it. Raises _ClientGone."""
        try:
            await self._send(event)
        except OSError as error:
            raise _ClientGone from error

    async def _send_text(self, text: str) -> None:
        await self.send({"type": "websocket.send", "text": text})

    async def _read(self) -> None:
        """Handle messages until the client disconnects."""
        while True:
            event = await self._receive_event()
            if event["type"] == "websocket.disconnect":
                return
            await self._handle(event.pop("text", None))
            self._messages.remove(None)
            # Other connections get their turn between messages that arrived together.
            await asyncio.sleep(0)

    async def _handle(self, text: str | None) -> None:
        """Handle one message. Raises _CloseConnection if it is invalid."""
        if text is None:
            raise _CloseConnection(4400, "Invalid message: binary. Send JSON as text.")
        message, size = await self._parse_in_turn(text)
        self._messages.read(size)
        del text
        match message:
            case ConnectionInit():
                await self._init(message)
            case Ping():
                await self._send_text(write_pong(message.payload))
            case Pong():
                pass
            case Subscribe():
                await self._subscribe(message, size)
            case Complete():
                self._complete(message)

    async def _parse_in_turn(self, text: str) -> tuple[ClientMessage, int]:
        """Parse a message and estimate its memory. Other work runs between two long messages of all connections."""
        if len(text) <= LONG_MESSAGE_CHARS:
            return _parse(text)
        token_id = None if self._context is None else self._context.viewer.id
        self._messages.read(sys.getsizeof(text))
        async with self._engine.long_messages.hold(token_id):
            await asyncio.sleep(0)
            return _parse(text)

    async def _receive_event(self) -> Message:
        """Return the next event. Check the token meanwhile, so that a revoked one holds no connections."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(self._token_check_at):
                    return await self._receive()
            await self._check_token()

    async def _check_token(self) -> None:
        assert self._context is not None, "tokens are checked after connection_init"
        self._token_check_at = asyncio.get_running_loop().time() + TOKEN_CHECK_SECONDS
        try:
            await self._context.reauthenticate()
        except ApiError as error:
            raise _CloseConnection(4403, "Forbidden") from error
        except Exception as error:
            if not is_database_unreachable(error):  # the next check may reach it
                raise

    async def _init(self, message: ConnectionInit) -> None:
        if self._context is not None:
            raise _CloseConnection(4429, "Too many initialisation requests")
        if self._reading is not None and not self._is_dropped:
            self._reading.reschedule(None)
        try:
            token = await self._services.authenticator.authenticate_connection(message.payload)
        except Exception as error:
            error_id = new_key().hex
            logger.exception("cannot authenticate", action="connect", error_id=error_id)
            # Clients reconnect after 1013, but not after 1011 or 4500.
            raise _CloseConnection(1013, f"Something went wrong (id {error_id}). Try again later.") from error
        if token is None:
            raise _CloseConnection(4403, "Forbidden")
        try:
            self._count.enter_context(self._engine.quota.count_connection(token.id))
        except RequestRefused as refused:
            # Clients connect again after 1013: connections that they have lost may still count.
            raise _CloseConnection(1013, refused.errors[0].message) from refused
        self._context = Context(self._services, token)
        self._token_check_at = asyncio.get_running_loop().time() + TOKEN_CHECK_SECONDS
        exempt_client(self._scope)
        await self._send_text(ACK)

    async def _subscribe(self, message: Subscribe, size: int) -> None:
        if self._context is None:
            raise _CloseConnection(4401, "Unauthorized")
        if message.id in self._operations:
            raise _CloseConnection(4409, f"Subscriber for {message.id} already exists")
        allowed = self._engine.limits.subscriptions_per_connection
        if len(self._operations) >= allowed:
            text = (
                f"This connection already runs {allowed:,} operations, the limit "
                "(RINGBACK_API_MAX_SUBSCRIPTIONS_PER_CONNECTION). Complete one first."
            )
            error = limit_exceeded("subscriptionsPerConnection", allowed, text)
            await self._send_text(write_error(message.id, [error]))
            return
        await self._messages.wait_for_room(self._engine.limits.body_bytes)
        while len(self._tasks) >= allowed:
            stopped = self._tasks.difference(self._operations.values())
            await asyncio.wait(stopped, return_when=asyncio.FIRST_COMPLETED)
        token_id = self._context.viewer.id
        if not self._engine.quota.has_room_for_message(token_id, size):
            await self._send_text(write_error(message.id, [too_many_messages(self._engine.limits)]))
            return
        task = asyncio.create_task(self._run(message, self._context))
        self._operations[message.id] = task
        self._tasks.add(task)
        self._messages.assign(task)
        self._engine.quota.count_message(token_id, size)
        task.add_done_callback(self._release_message)
        task.add_done_callback(self._tasks.discard)

    def _release_message(self, task: asyncio.Task[None]) -> None:
        """Stop counting the message of an operation that has ended, or whose subscription has started."""
        assert self._context is not None, "operations run after connection_init"
        self._engine.quota.count_message(self._context.viewer.id, -self._messages.remove(task))

    def _complete(self, message: Complete) -> None:
        """Stop an operation and free its id; nothing more is sent for it. Unknown ids are ignored."""
        task = self._operations.pop(message.id, None)
        if task is not None:
            task.cancel()

    async def _run(self, message: Subscribe, context: Context) -> None:
        operation_id = message.id
        responses = self._responses(message, context)
        # A subscription runs for long, and its message may hold variables of a megabyte that it does not declare.
        del message
        try:
            with suppress(_ClientGone):
                await self._send_text(await self._send_results(operation_id, responses))
        finally:
            # No other task runs between the last message and this: a client that has read it may reuse the id.
            if self._operations.get(operation_id) is asyncio.current_task():
                del self._operations[operation_id]

    async def _send_results(self, operation_id: str, results: AsyncGenerator[ExecutionResponse, None]) -> str:
        """Send the results of an operation. Return the message that ends it, unsent."""
        sent = 0
        async with aclosing(results) as responses:
            async for response in responses:
                if not response.executed:
                    return write_error(operation_id, response.errors)
                await self._send_text(write_next(operation_id, response.text))
                del response  # which would stay in memory until the next one
                sent += 1
                if sent % MESSAGES_PER_TURN == 0:
                    await asyncio.sleep(0)
        return write_complete(operation_id)

    async def _get_operation(self, message: Subscribe, context: Context) -> Operation:
        """Return the operation of a message. If too much of its token is waiting, try again until it is checked.

        A client that connects again may send thousands of documents at once, and would not repeat a refused one.
        """
        get_operation = partial(
            self._engine.operation,
            message.query,
            message.operation_name,
            token_id=context.viewer.id,
            request_bytes=message.size,
        )
        if not self._retrying.locked():
            with suppress(TooManyRequests):
                return await get_operation()
        # One operation of each connection tries, so that thousands that wait cost no more than a few.
        async with self._retrying:
            while True:
                with suppress(TooManyRequests):
                    return await get_operation()
                await asyncio.sleep(RETRY_SECONDS)

    async def _responses(self, message: Subscribe, context: Context) -> AsyncGenerator[ExecutionResponse, None]:
        """Execute an operation of any kind. Exceptions become error responses."""
        try:
            operation = await self._get_operation(message, context)
            if operation.kind is OperationType.SUBSCRIPTION:
                self._release_message(_get_current_task())
                subscription = self._engine.subscribe(operation, message.variables, context)
                del message
                async with aclosing(subscription) as responses:
                    async for response in responses:
                        yield response
                        del response
            else:
                self._messages.execute(_get_current_task())
                yield await self._engine.execute(operation, message.variables, context)
        except RequestRefused as refused:
            yield error_response(*refused.errors)
        except Exception as error:
            yield error_response(to_graphql_error(error))


def _parse(text: str) -> tuple[ClientMessage, int]:
    try:
        message = parse(text)
    except InvalidMessage as invalid:
        raise _CloseConnection(4400, f"Invalid message: {invalid}") from invalid
    return message, estimate_memory(text)


def _get_current_task() -> asyncio.Task[None]:
    """Return the running task. A frame that keeps it keeps itself, once the task is cancelled."""
    task = asyncio.current_task()
    assert task is not None
    return task
