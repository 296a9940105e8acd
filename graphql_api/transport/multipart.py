"""Subscriptions over multipart/mixed, as in Apollo's "Multipart HTTP protocol for GraphQL subscriptions" 1.0.

Each response is a part, under the key `payload`. An error that ends the subscription stands beside `"payload":null`.
Clients process a part when they see the next boundary, so each part is sent with the boundary that follows it.
"""

from ringback.graphql_api.execution.engine import ExecutionResponse
from ringback.graphql_api.transport.streaming import Framing

_PART = b"\r\nContent-Type: application/json\r\n\r\n%b\r\n--graphql"


def _write_part(response: ExecutionResponse) -> bytes:
    if response.executed:
        return _PART % (b'{"payload":%b}' % response.json)
    return _PART % (b'{"payload":null,%b' % response.json.removeprefix(b"{"))


MULTIPART = Framing(
    content_type=b'multipart/mixed;boundary="graphql";subscriptionSpec="1.0"',
    frame=_write_part,
    opening=b"\r\n--graphql",
    heartbeat=_PART % b"{}",
    closing=b"--\r\n",
)
