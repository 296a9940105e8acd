"""The stored form of requests and responses."""

import pytest
from yarl import URL

from ringback.jobs.attempt_json import request_to_json, response_to_json
from ringback.jobs.http.request import OutgoingRequest, RequestTemplate
from ringback.jobs.outcomes import HttpResponse
from ringback.jobs.redaction import MASK

ADDRESS = URL('https://hooks.example/"é"?q=1&token=s3cr3t')


@pytest.mark.parametrize("body", [None, b"", b'{"a": "\xc3\xa9\\n"}', b"\xff\x00\"'"])
@pytest.mark.parametrize("secret", ["Authorization", "X-Api-Key"])
@pytest.mark.parametrize("own", [True, False])
def test_a_request_is_kept_as_it_was_sent_but_for_its_secrets(body: bytes | None, secret: str, own: bool) -> None:
    same = (("A", 'x"\\'), ("Äh", "ü")) + (() if own else ((secret, "s3cr3t"),))
    template = RequestTemplate("POST", ADDRESS, same, ("webhook-id", secret) if own else ("webhook-id",))
    request = OutgoingRequest(template, ("evt_1\t", "s3cr3t") if own else ("evt_1\t",), body)
    assert request_to_json(request) == {
        "method": "POST",
        "url": f"https://hooks.example/%22%C3%A9%22?q=1&token={MASK}",
        "headers": [(name, MASK if value == "s3cr3t" else value) for name, value in request.sent_headers],
        "body": None if body is None else body.decode(errors="replace"),
    }


def test_an_answer_is_kept() -> None:
    answer = HttpResponse(
        200, (("Content-Type", "text/plain"), ("Set-Cookie", "a=b")), b'thanks "\xff\x00\xc3\xa9', True
    )
    assert response_to_json(answer) == {
        "headers": (("Content-Type", "text/plain"), ("Set-Cookie", "a=b")),
        "body": 'thanks "\ufffd\ufffdé',
        "body_truncated": True,
    }
