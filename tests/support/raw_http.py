"""HTTP clients that write any bytes, and read only when they are told to."""

import socket
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from urllib.parse import urlsplit

from tests.support.patience import PATIENCE_SECONDS
from tests.support.program import Program


def connect(program: Program, receive_buffer: int | None = None) -> socket.socket:
    """Connect to the program. A small receive buffer makes an unread response wait in the program."""
    where = urlsplit(program.url)
    assert where.hostname is not None and where.port is not None
    client = socket.socket()
    if receive_buffer is not None:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    client.settimeout(PATIENCE_SECONDS)
    client.connect((where.hostname, where.port))
    return client


@contextmanager
def connect_many(
    program: Program, count: int, sent: bytes, *, receive_buffer: int | None = None, seconds: float = PATIENCE_SECONDS
) -> Iterator[list[socket.socket]]:
    """Keep connections open while the block runs. Each has sent this, or as much as it could in these seconds."""
    with ExitStack() as stack:
        clients = []
        for _ in range(count):
            client = stack.enter_context(connect(program, receive_buffer))
            client.settimeout(seconds)
            with suppress(ConnectionError, TimeoutError):
                client.sendall(sent)
            client.settimeout(PATIENCE_SECONDS)
            clients.append(client)
        yield clients


def read_to_end(client: socket.socket) -> bytes:
    """Return what the server sends before it closes. A reset ends it too."""
    parts: list[bytes] = []
    with suppress(ConnectionError):
        while part := client.recv(65_536):
            parts.append(part)
    return b"".join(parts)


def read_all_to_end(clients: Sequence[socket.socket]) -> list[bytes]:
    """Return what the server sends to each client before it closes."""
    return [read_to_end(client) for client in clients]


def send(client: socket.socket, data: bytes) -> bool:
    """Send data. Return False if the server has closed the connection."""
    try:
        client.sendall(data)
    except ConnectionError:
        return False
    return True


def send_until_closed(client: socket.socket, pieces: Iterable[bytes]) -> int:
    """Send pieces until the server closes the connection. Return the bytes sent."""
    sent_bytes = 0
    for piece in pieces:
        if not send(client, piece):
            break
        sent_bytes += len(piece)
    return sent_bytes


def statuses(answers: Iterable[bytes]) -> set[bytes]:
    """Return the statuses of responses; b"" stands for none."""
    return {answer[9:12] for answer in answers}


def post_head(program: Program, length: int, path: str = "/graphql", token: str | None = None) -> bytes:
    """Return the head of a POST with a body of that length."""
    authorization = f"Authorization: Bearer {token}\r\n" if token else ""
    return (
        f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{authorization}"
        f"Content-Length: {length}\r\n\r\n"
    ).encode()
