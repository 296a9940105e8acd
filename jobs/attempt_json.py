"""The stored form of an attempt's request and response, with their secrets redacted."""

from functools import lru_cache
from typing import Any

from ringback.jobs.http.request import OutgoingRequest
from ringback.jobs.outcomes import HttpResponse
from ringback.jobs.request_plan import ATTEMPT_HEADERS
from ringback.models.redaction import Redaction


def request_to_json(request: OutgoingRequest, redaction: Redaction) -> dict[str, Any]:
    """Return {method, url, headers: [[name, value]], body} of a request that was sent, and its note if it has one."""
    body = None
    if request.body is not None:
        body = request.body.decode(request.codec, "replace")
    stored = {
        "method": request.template.method,
        "url": redaction.redact_url(request.template.target.text),
        "headers": _redact_sent_headers(request, redaction),
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


def _redact_sent_headers(request: OutgoingRequest, redaction: Redaction) -> list[tuple[str, str]]:
    """Return the sent headers, redacted. Headers that all requests of a template share are redacted once."""
    template = request.template
    if template.variable_names != ATTEMPT_HEADERS or _hides_headers_of_ours(redaction):
        return redaction.redact_headers(request.sent_headers)
    return [*template.redact_leading_headers(redaction), *request.last_headers]


@lru_cache(8)
def _hides_headers_of_ours(redaction: Redaction) -> bool:
    """Return whether a pattern of the operator matches a header that differs between requests of a template."""
    return any(map(redaction.is_secret, (*ATTEMPT_HEADERS, "Content-Length")))
