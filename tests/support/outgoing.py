"""Requests as tests write them down."""

from yarl import URL

from ringback.jobs.http.request import Headers, OutgoingRequest, make_request_template
from ringback.models.security.url_rules import Target


def outgoing(method: str, url: URL, headers: Headers = (), body: bytes | None = None) -> OutgoingRequest:
    """Return a request whose frame holds no values of its headers."""
    names = tuple(name for name, _ in headers)
    target = Target(origin=url.with_path("/"), path_and_query=url.raw_path_qs, text=str(url))
    return OutgoingRequest(make_request_template(method, target, names), tuple(value for _, value in headers), body)
