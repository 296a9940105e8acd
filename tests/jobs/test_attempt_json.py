"""The stored form of requests and responses."""

import pytest

from ringback.jobs.attempt_json import request_to_json, response_to_json
from ringback.jobs.http.request import Headers, OutgoingRequest, RequestTemplate
from ringback.jobs.outcomes import HttpResponse
from ringback.jobs.renderer import render, sign
from ringback.jobs.request_plan import RequestPlan
from ringback.models.redaction import DEFAULT, MASK, Redaction
from ringback.models.security.signing import new_signing_secret
from ringback.models.security.url_rules import parse_target
from tests.support.unsaved import change, event, webhook

ADDRESS = parse_target('https://hooks.example/"é"?q=1&token=s3cr3t')


@pytest.mark.parametrize("body", [None, b"", b'{"a": "\xc3\xa9\\n"}', b"\xff\x00\"'"])
@pytest.mark.parametrize("secret", ["Authorization", "X-Api-Key"])
@pytest.mark.parametrize("is_fixed", [True, False])
def test_a_request_is_stored_as_sent_with_its_secrets_redacted(body: bytes | None, secret: str, is_fixed: bool) -> None:
    fixed_headers: Headers = (("A", 'x"\\'), ("Äh", "ü"))
    names: tuple[str, ...] = ("webhook-id",)
    values: tuple[str, ...] = ("evt_1\t",)
    if is_fixed:
        fixed_headers = (*fixed_headers, (secret, "s3cr3t"))
    else:
        names, values = (*names, secret), (*values, "s3cr3t")

    request = OutgoingRequest(RequestTemplate("POST", ADDRESS, fixed_headers, names), values, body)

    assert request_to_json(request, DEFAULT) == {
        "method": "POST",
        "url": f"https://hooks.example/%22%C3%A9%22?q=1&token={MASK}",
        "headers": [(name, MASK if value == "s3cr3t" else value) for name, value in request.sent_headers],
        "body": None if body is None else body.decode(errors="replace"),
    }


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [["Authorization", "Bearer s3cr3t"], ["X-Corp", "s3cr3t"]],
        [["Referer", "/a?token=s3cr3t"], ["Accept", "text/html; sig=s3cr3t"]],
        [["X-Api-Key", "{{ item.id }}"], ["X-Corp", "a"]],
    ],
)
def test_a_signed_request_is_stored_with_the_secrets_of_its_webhook_redacted(headers: list[list[str]]) -> None:
    plan = RequestPlan(webhook(send_json=True, headers=headers))
    for redaction in (DEFAULT, Redaction(["corp"]), Redaction(["event-id"]), DEFAULT):
        for number in range(2):
            claimed = event(attempt_count=number)
            rendered = render(plan, webhook(send_json=True, headers=headers), claimed, change())
            request = sign(rendered, claimed, timestamp=number, secret=new_signing_secret())
            stored = request_to_json(request, redaction)["headers"]
            assert stored == redaction.redact_headers(request.sent_headers)
            assert "s3cr3t" not in str([value for name, value in stored if name != "X-Corp"])


def test_a_response_is_stored_with_its_secrets_redacted() -> None:
    headers = (("Content-Type", "text/plain"), ("Set-Cookie", "a=b"), ("Location", "/x?sig=a"), ("X-Corp", "a"))
    response = HttpResponse(200, headers, b'thanks "\xff\x00\xc3\xa9', True)
    assert response_to_json(response, Redaction(["corp"])) == {
        "headers": [
            ("Content-Type", "text/plain"),
            ("Set-Cookie", MASK),
            ("Location", f"/x?sig={MASK}"),
            ("X-Corp", MASK),
        ],
        "headers_truncated": False,
        "body": 'thanks "\ufffd\ufffdé',
        "body_truncated": True,
    }
