"""Server-Sent Events, in the distinct connections mode of graphql-sse's PROTOCOL.md.

Each operation has its own connection: a `next` event for each response, then `complete`. The protocol has no event for
errors, so a refused operation is a `next` event too.
"""

from ringback.graphql_api.execution.engine import ExecutionResponse
from ringback.graphql_api.transport.streaming import Framing


def _write_next(response: ExecutionResponse) -> bytes:
    return b"event: next\ndata: " + response.json + b"\n\n"


EVENT_STREAM = Framing(
    content_type=b"text/event-stream; charset=utf-8",
    frame=_write_next,
    # Comments. The first one makes browsers report that the stream is open.
    opening=b":\n\n",
    heartbeat=b":\n\n",
    # Browsers drop an event that has no data field, so this one has an empty one.
    closing=b"event: complete\ndata:\n\n",
)
