"""Subscriptions by multipart/mixed, as Apollo's "Multipart HTTP protocol for GraphQL subscriptions" 1.0 has them.

Each answer is a part, under the key `payload`. An answer that ends the subscription stands beside a `payload` of null.
Clients read a part when they see the boundary after it, so that goes out with the part.
"""

from ringback.graphql_api.execution.engine import ExecutionResponse
from ringback.graphql_api.transport.streaming import Framing

_PART = b"\r\nContent-Type: application/json\r\n\r\n%b\r\n--graphql"


def _part(answer: ExecutionResponse) -> bytes:
    if answer.executed:
        return _PART % (b'{"payload":%b}' % answer.json)
    return _PART % (b'{"payload":null,%b' % answer.json.removeprefix(b"{"))


MULTIPART = Framing(
    content_type=b'multipart/mixed;boundary="graphql";subscriptionSpec="1.0"',
    frame=_part,
    opening=b"\r\n--graphql",
    heartbeat=_PART % b"{}",
    closing=b"--\r\n",
)
