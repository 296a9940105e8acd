"""Requests as tests write them down."""

from yarl import URL

from ringback.jobs.http.request import Headers, OutgoingRequest, make_request_template


def outgoing(method: str, url: URL, headers: Headers = (), body: bytes | None = None) -> OutgoingRequest:
    """Return a request whose frame holds no values of its headers."""
    names = tuple(name for name, _ in headers)
    return OutgoingRequest(make_request_template(method, url, names), tuple(value for _, value in headers), body)
