"""The one place where errors of aiohttp and the system become outcomes."""

import os
import ssl
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import aiohttp
from aiohttp import http_exceptions
from yarl import URL

from ringback.jobs.http.response_reader import InvalidResponse
from ringback.jobs.outcomes import (
    BadResponse,
    Blocked,
    HttpResponse,
    Outcome,
    RenderFailed,
    TimedOut,
    TlsFailed,
    Unreachable,
)
from ringback.models.errors import AddressBlocked

#: Characters of a foreign message that are quoted.
MAX_QUOTED_CHARACTERS = 200
#: How the message for different failures of a host's addresses starts.
_MULTIPLE = "Multiple exceptions: "


class LookupFailed(OSError):
    """A name without an address; the message is a sentence. aiohttp expects an OSError from a resolver."""


class _Failure(NamedTuple):
    """An error, the origin of the request's URL, and the response as far as it had arrived."""

    error: BaseException
    origin: URL
    response: HttpResponse | None

    @property
    def peer(self) -> str:
        return f"{self.origin.host_subcomponent}:{self.origin.port}"

    @property
    def cause(self) -> BaseException:
        """The system's error inside aiohttp's, or the error itself."""
        cause: BaseException = getattr(self.error, "os_error", self.error)
        return cause


def to_outcome(error: BaseException, origin: URL, response: HttpResponse | None = None) -> Outcome:
    """Return the outcome for an error of aiohttp or the system; `response` is as much as had arrived before it.

    Any other error is a bug of ours, and is raised again.
    """
    for kinds, make_outcome in _OUTCOMES:
        if isinstance(error, kinds):
            return make_outcome(_Failure(error, origin, response))
    raise error


def _timed_out(failure: _Failure) -> Outcome:
    return TimedOut(f"{failure.peer} did not answer in time.", failure.response)


def _tls_failed(failure: _Failure) -> Outcome:
    cause = failure.cause
    reason = getattr(cause, "verify_message", None)
    code = getattr(cause, "reason", None) or "handshake failed"
    if not reason:
        reason = str(code).replace("_", " ").lower()
    message = f"TLS with {failure.peer} failed: {quote(reason)}."
    if code == "WRONG_VERSION_NUMBER":  # OpenSSL's word for an answer without TLS
        message += " The endpoint seems to speak http: check the scheme and the port of the URL."
    return TlsFailed(message)


def _not_connected(failure: _Failure) -> Outcome:
    if failure.response is not None:
        return _broken_off(failure)
    cause = failure.cause
    if isinstance(cause, AddressBlocked):
        return Blocked(str(cause))
    if isinstance(cause, LookupFailed):
        return Unreachable(str(cause))
    if isinstance(cause, ConnectionRefusedError):
        return Unreachable(f"Connection refused by {failure.peer}.")
    if isinstance(cause, ConnectionResetError) and failure.origin.scheme == "https":
        return TlsFailed(f"TLS with {failure.peer} failed: the connection was closed during the handshake.")
    return Unreachable(f"No connection to {failure.peer}: {_describe_failure(cause)}.")


def _describe_failure(cause: BaseException) -> str:
    """Return why there is no connection, without the addresses that the messages of asyncio and aiohttp name."""
    if isinstance(cause, OSError) and cause.errno:
        return quote(os.strerror(cause.errno))
    reason = quote(str(cause)) or "it was closed at once"
    if reason.startswith(_MULTIPLE):
        return "none of its addresses accepts one"
    return reason


def _broken_off(failure: _Failure) -> Outcome:
    ssl_error = failure.error.__cause__
    if isinstance(ssl_error, ssl.SSLError):
        return _tls_failed(failure._replace(error=ssl_error))
    return BadResponse(f"{failure.peer} closed the connection before its response was complete.", failure.response)


def _not_http(failure: _Failure) -> Outcome:
    reason = getattr(failure.error, "message", "") or str(failure.error) or "no reason given"
    return BadResponse(f"{failure.peer} did not answer with valid HTTP: {quote(reason)}.", failure.response)


def _cannot_send(failure: _Failure) -> Outcome:
    return RenderFailed(f"The request cannot be sent: {quote(str(failure.error))}.")


def quote(text: str) -> str:
    """Return the first line of a foreign message, shortened, and without a full stop."""
    return text.strip().partition("\n")[0].strip().rstrip(".:")[:MAX_QUOTED_CHARACTERS]


_Mapping: TypeAlias = tuple[tuple[type[BaseException], ...], Callable[[_Failure], Outcome]]

#: The first match counts, so subclasses precede their bases.
_OUTCOMES: tuple[_Mapping, ...] = (
    ((aiohttp.ClientSSLError, aiohttp.ServerFingerprintMismatch, ssl.SSLError), _tls_failed),
    ((aiohttp.ServerTimeoutError,), _timed_out),
    ((AddressBlocked, aiohttp.ClientConnectorError), _not_connected),
    ((aiohttp.ClientPayloadError, aiohttp.UploadAbortedError), _broken_off),
    ((aiohttp.ClientResponseError, http_exceptions.HttpProcessingError, InvalidResponse), _not_http),
    ((aiohttp.InvalidURL, aiohttp.RedirectClientError, aiohttp.NonHttpUrlClientError), _cannot_send),
    ((aiohttp.ClientConnectionError,), _broken_off),
    ((ValueError,), _cannot_send),
    # uvloop raises RuntimeError where asyncio raises OSError. ClientError catches errors that a later aiohttp may add.
    ((OSError, RuntimeError, aiohttp.ClientError), _not_connected),
)
#: Every error that `to_outcome` maps.
EXPECTED: tuple[type[BaseException], ...] = tuple(kind for kinds, _ in _OUTCOMES for kind in kinds)
