"""The stored form of an attempt's request, with its secrets redacted, and of its response."""

from typing import Any

from ringback.jobs.http.request import OutgoingRequest
from ringback.jobs.outcomes import HttpResponse
from ringback.jobs.redaction import redact, redact_url


def request_to_json(request: OutgoingRequest) -> dict[str, Any]:
    """Return {method, url, headers: [[name, value]], body} of a request that was sent, and its note if it has one."""
    body = None
    if request.body is not None:
        body = request.body.decode(request.codec, "replace")
    stored = {
        "method": request.template.method,
        "url": redact_url(request.template.target.text),
        "headers": redact(request.sent_headers),
        "body": body,
    }
    if request.note is not None:
        stored["note"] = request.note
    return stored


def response_to_json(response: HttpResponse) -> dict[str, Any]:
    """Return {headers: [[name, value]], headers_truncated, body, body_truncated} of a response.

    U+0000 becomes U+FFFD, since Postgres stores no text with it.
    """
    return {
        "headers": response.headers,
        "headers_truncated": response.headers_truncated,
        "body": response.body.decode("utf-8", "replace").replace("\x00", "\ufffd"),
        "body_truncated": response.body_truncated,
    }
