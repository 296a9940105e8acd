"""The applications that the API is compared with: plain Strawberry, and Starlette with a fixed JSON response.

`python -m bench.plain strawberry|starlette` serves one of them on a free port, in the same way as Ringback: one uvicorn
process on uvloop, with httptools and without an access log.
"""

import asyncio
import socket
import sys
from collections.abc import Callable
from typing import Any

import strawberry
import uvicorn
import uvloop
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from strawberry.asgi import GraphQL


@strawberry.type
class Query:
    """The first example of Strawberry's documentation."""

    @strawberry.field
    def hello(self) -> str:
        """Return the string of the benchmark."""
        return "world"


async def _hello(request: Request) -> JSONResponse:
    await request.body()
    return JSONResponse({"data": {"hello": "world"}})


APPS: dict[str, Callable[[], Any]] = {
    "strawberry": lambda: GraphQL[None, None](strawberry.Schema(Query)),
    "starlette": lambda: Starlette(routes=[Route("/", _hello, methods=["POST"])]),
}


def main(name: str) -> None:
    """Serve until a signal. The first printed line contains the URL."""
    with socket.create_server(("127.0.0.1", 0), backlog=2048) as sock:
        print(f"running on http://127.0.0.1:{sock.getsockname()[1]}", flush=True)
        config = uvicorn.Config(
            APPS[name](), http="httptools", lifespan="off", log_config=None, access_log=False, server_header=False
        )
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(uvicorn.Server(config).serve(sockets=[sock]))


if __name__ == "__main__":
    main(sys.argv[1])
