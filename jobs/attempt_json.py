"""The stored form of an attempt's request and response: what was sent, with secrets masked, and what came back."""

from typing import Any

from ringback.jobs.http.request import OutgoingRequest
from ringback.jobs.outcomes import Answer
from ringback.jobs.redaction import masked, masked_url


def kept_request(request: OutgoingRequest) -> dict[str, Any]:
    """Return {method, url, headers: [[name, value]], body} of a request that was sent."""
    body = request.body
    return {
        "method": request.frame.method,
        "url": masked_url(str(request.frame.url)),
        "headers": masked(request.sent_headers),
        "body": None if body is None else body.decode("utf-8", "replace"),
    }


def kept_response(answer: Answer) -> dict[str, Any]:
    """Return {headers: [[name, value]], body, body_truncated} of a response.

    No text in Postgres holds U+0000.
    """
    return {
        "headers": answer.headers,
        "body": answer.body.decode("utf-8", "replace").replace("\x00", "\ufffd"),
        "body_truncated": answer.body_truncated,
    }
