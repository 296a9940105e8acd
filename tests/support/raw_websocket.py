"""A WebSocket client that keeps to no rule: it writes any bytes, and reads only when it is told to."""

import socket
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from websockets.frames import Frame, Opcode

from tests.support.patience import PATIENCE_SECONDS

HANDSHAKE = (
    "GET /graphql HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Protocol: graphql-transport-ws\r\n\r\n"
)


class RawSocket:
    """A connection whose opening handshake is over; blocks, so call it in a thread where the server is in this one."""

    def __init__(self, url: str, receive_buffer: int | None = None) -> None:
        where = urlsplit(url)
        self.socket = socket.socket()
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(PATIENCE_SECONDS)
        self.socket.connect((where.hostname, where.port))
        self.socket.sendall(HANDSHAKE.encode())
        self._rest = b""
        while b"\r\n\r\n" not in self._rest:
            self._rest += self._more()
        head, _, self._rest = self._rest.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 "), head

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.socket.close()

    def send(self, *frames: Frame) -> None:
        """Write frames, all of them before anything is read."""
        self.socket.sendall(b"".join(frame.serialize(mask=True) for frame in frames))

    def frame(self) -> tuple[Opcode, bytes]:
        """Return the next frame; raise EOFError or ConnectionError where a browser would report 1006."""
        first, length = self._bytes(2)
        if length >= 126:
            length = int.from_bytes(self._bytes(2 if length == 126 else 8))
        return Opcode(first & 0x0F), self._bytes(length)

    def closed(self) -> tuple[int, str]:
        """Return code and reason of the next frame, which must close the connection; then the server hangs up."""
        opcode, data = self.frame()
        assert opcode is Opcode.CLOSE, (opcode, data)
        code, reason = int.from_bytes(data[:2]), data[2:].decode()
        self.send(Frame(Opcode.CLOSE, data))
        assert self.socket.recv(1) == b""
        return code, reason

    def _bytes(self, count: int) -> bytes:
        while len(self._rest) < count:
            self._rest += self._more()
        data, self._rest = self._rest[:count], self._rest[count:]
        return data

    def _more(self) -> bytes:
        data = self.socket.recv(65_536)
        if not data:
            raise EOFError("the server hung up")
        return data
