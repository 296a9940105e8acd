"""The stored form of an attempt's request and response, with their secrets redacted."""

from typing import Any

from ringback.jobs.http.request import OutgoingRequest
from ringback.jobs.outcomes import HttpResponse
from ringback.models.redaction import Redaction


def request_to_json(request: OutgoingRequest, redaction: Redaction) -> dict[str, Any]:
    """Return {method, url, headers: [[name, value]], body} of a request that was sent, and its note if it has one."""
    body = None
    if request.body is not None:
        body = request.body.decode(request.codec, "replace")
    stored = {
        "method": request.template.method,
        "url": redaction.redact_url(request.template.target.text),
        "headers": redaction.redact_headers(request.sent_headers),
        "body": body,
    }
    if request.note is not None:
        stored["note"] = request.note
    return stored


def response_to_json(response: HttpResponse, redaction: Redaction) -> dict[str, Any]:
    """Return {headers: [[name, value]], headers_truncated, body, body_truncated} of a response.

    U+0000 becomes U+FFFD, since Postgres stores no text with it.
    """
    return {
        "headers": redaction.redact_headers(response.headers),
        "headers_truncated": response.headers_truncated,
        "body": response.body.decode("utf-8", "replace").replace("\x00", "\ufffd"),
        "body_truncated": response.body_truncated,
    }
