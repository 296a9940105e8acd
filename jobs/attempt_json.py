"""The stored form of an attempt's request and response: what was sent, with secrets masked, and what came back."""

from typing import Any

from ringback.jobs.http.request import OutgoingRequest
from ringback.jobs.outcomes import HttpResponse
from ringback.jobs.redaction import redact, redact_url


def request_to_json(request: OutgoingRequest) -> dict[str, Any]:
    """Return {method, url, headers: [[name, value]], body} of a request that was sent."""
    body = request.body
    return {
        "method": request.template.method,
        "url": redact_url(str(request.template.url)),
        "headers": redact(request.sent_headers),
        "body": None if body is None else body.decode("utf-8", "replace"),
    }


def response_to_json(answer: HttpResponse) -> dict[str, Any]:
    """Return {headers: [[name, value]], body, body_truncated} of a response.

    No text in Postgres holds U+0000.
    """
    return {
        "headers": answer.headers,
        "body": answer.body.decode("utf-8", "replace").replace("\x00", "\ufffd"),
        "body_truncated": answer.body_truncated,
    }
