"""Attempts and the inbox requests that they caused, in one graph of the started program."""

import json

from tests.support.deliveries import create_inbox, create_webhook, test_fire, wait_until_ended
from tests.support.program import Program

#: The part of the contract's CausalGraph below the event: a test event has no change.
ATTEMPTS_AND_REQUESTS = """
query ($id: ID!) { event(id: $id) { attempts {
  number statusCode request { headers { name value } }
  inboxRequest { id body responseStatusCode headers { name value } event { id } }
} } }
"""


def test_each_attempt_leads_to_the_request_that_the_inbox_received(program: Program) -> None:
    # The second response is too late, so its attempt has none, but the inbox has the request.
    inbox = create_inbox(program, {"statusCode": 500}, {"delayMs": 10_000}, {"statusCode": 200})
    webhook_id = create_webhook(
        program, inbox, sendJson=True, retryDelaysSeconds=[0, 0, 0], timeoutSeconds=5, actions=["CREATED"]
    )
    event_ids = [test_fire(program, webhook_id, name="Ada")]
    first = wait_until_ended(program, event_ids[0])
    assert [a["outcome"] for a in first["attempts"]] == ["REJECTED", "TIMED_OUT", "DELIVERED"]
    # Two concurrent events, whose requests arrive interleaved.
    event_ids += [test_fire(program, webhook_id, name=name) for name in ("Bob", "Eve")]
    seen = set()
    for event_id, name in zip(event_ids, ("Ada", "Bob", "Eve"), strict=True):
        count = len(wait_until_ended(program, event_id)["attempts"])
        graph = program.query(ATTEMPTS_AND_REQUESTS, {"id": event_id})["event"]
        requests = [attempt["inboxRequest"] for attempt in graph["attempts"]]
        assert len(requests) == count
        assert [r["event"]["id"] for r in requests] == [event_id] * count
        assert [json.loads(r["body"]) for r in requests] == [{"name": name}] * count
        for attempt, request in zip(graph["attempts"], requests, strict=True):
            headers = {header["name"]: header["value"] for header in request["headers"]}
            assert headers["ringback-attempt"] == str(attempt["number"])
            assert headers["webhook-signature"] == next(
                h["value"] for h in attempt["request"]["headers"] if h["name"] == "webhook-signature"
            )
            assert attempt["statusCode"] in (None, request["responseStatusCode"])
        seen |= {r["id"] for r in requests}
    assert len(seen) == 5
