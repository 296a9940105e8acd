"""The upper limit of all deliveries: the bare loop of the HTTP client, aiohttp on uvloop.

100 requests in flight on kept-alive connections, each with the headers of a delivery and a signed body, without storage
or templates. `python -m bench.bare URL REQUESTS BODY_BYTES` prints the rate as JSON.
"""

import asyncio
import json
import sys
import time

import aiohttp
import uvloop

from ringback.models.security.signing import new_signing_secret
from tests.support.signatures import signature_headers

IN_FLIGHT = 100


async def main(url: str, requests: int, body_bytes: int) -> None:
    """Send `requests` requests and print the rate."""
    secret = new_signing_secret()
    body = b'{"id":"%s"}' % (b"x" * (body_bytes - 9))
    events = (f"evt_{number:026d}" for number in range(requests))

    async def send(session: aiohttp.ClientSession) -> None:
        for event in events:
            headers = signature_headers(event_id=event, timestamp=int(time.time()), body=body, secret=secret)
            headers |= {"PS-WEBHOOK_EVENT-ID": event, "Content-Type": "application/json"}
            headers |= {"Ringback-Event": "lead.updated", "Ringback-Attempt": "1"}
            async with session.post(url, data=body, headers=headers, allow_redirects=False) as answer:
                assert answer.status == 200, answer.status
                await answer.read()

    connector = aiohttp.TCPConnector(limit=IN_FLIGHT)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=3)) as session:
        started = time.monotonic()
        await asyncio.gather(*(send(session) for _ in range(IN_FLIGHT)))
        seconds = time.monotonic() - started
    print(json.dumps({"rate": requests / seconds}))


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
