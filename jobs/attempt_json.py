"""The stored form of an attempt's request, with its secrets redacted, and of its response."""

from typing import Any

from ringback.jobs.http.request import OutgoingRequest
from ringback.jobs.outcomes import HttpResponse
from ringback.jobs.redaction import redact, redact_url


def request_to_json(request: OutgoingRequest) -> dict[str, Any]:
    """Return {method, url, headers: [[name, value]], body} of a request that was sent."""
    body = None
    if request.body is not None:
        body = request.body.decode("utf-8", "replace")
    return {
        "method": request.template.method,
        "url": redact_url(str(request.template.url)),
        "headers": redact(request.sent_headers),
        "body": body,
    }


def response_to_json(response: HttpResponse) -> dict[str, Any]:
    """Return {headers: [[name, value]], body, body_truncated} of a response.

    U+0000 becomes U+FFFD, since Postgres stores no text with it.
    """
    return {
        "headers": response.headers,
        "body": response.body.decode("utf-8", "replace").replace("\x00", "\ufffd"),
        "body_truncated": response.body_truncated,
    }
