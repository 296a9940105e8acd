"""Server-Sent Events, as the distinct connections mode of graphql-sse's PROTOCOL.md has them.

Each operation has a connection of its own: a `next` event for each answer, then `complete`. The protocol has no event
for errors; what is refused is told by a `next`, too.
"""

from ringback.graphql_api.execution.engine import ExecutionResponse
from ringback.graphql_api.transport.streaming import Framing


def _next(answer: ExecutionResponse) -> bytes:
    return b"event: next\ndata: " + answer.json + b"\n\n"


EVENT_STREAM = Framing(
    content_type=b"text/event-stream; charset=utf-8",
    frame=_next,
    # Comments. The first makes browsers tell that the stream is open.
    opening=b":\n\n",
    heartbeat=b":\n\n",
    # Without a data field, even an empty one, browsers drop an event.
    closing=b"event: complete\ndata:\n\n",
)
