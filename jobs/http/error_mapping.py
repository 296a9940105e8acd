"""What aiohttp and the system raise, as outcomes: the one place where foreign errors become our own."""

import ssl
from collections.abc import Callable
from typing import NamedTuple

import aiohttp
from aiohttp import http_exceptions
from yarl import URL

from ringback.jobs.http.connection import BadAnswer
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


class LookupFailed(OSError):
    """A name has no address; the message is a sentence. An OSError, as aiohttp expects of a resolver."""


class _Failure(NamedTuple):
    error: BaseException
    url: URL
    answer: HttpResponse | None

    @property
    def peer(self) -> str:
        return f"{self.url.host_subcomponent}:{self.url.port}"


def _timed_out(failure: _Failure) -> Outcome:
    return TimedOut(f"{failure.peer} did not answer in time.", failure.answer)


def _tls_failed(failure: _Failure) -> Outcome:
    error = getattr(failure.error, "os_error", failure.error)
    reason = str(getattr(error, "reason", None) or "handshake failed").replace("_", " ").lower()
    reason = getattr(error, "verify_message", None) or reason
    return TlsFailed(f"TLS with {failure.peer} failed: {first_line(reason)}.")


def _not_connected(failure: _Failure) -> Outcome:
    error = getattr(failure.error, "os_error", failure.error)
    if failure.answer is not None:
        return _broken_off(failure)
    if isinstance(error, AddressBlocked):
        return Blocked(str(error))
    if isinstance(error, LookupFailed):
        return Unreachable(str(error))
    if isinstance(error, ConnectionRefusedError):
        return Unreachable(f"Connection refused by {failure.peer}.")
    if isinstance(error, ConnectionResetError) and failure.url.scheme == "https":
        return TlsFailed(f"TLS with {failure.peer} failed: the connection was closed during the handshake.")
    reason = getattr(error, "strerror", None) or str(error) or "it was closed at once"
    return Unreachable(f"No connection to {failure.peer}: {first_line(reason)}.")


def _not_http(failure: _Failure) -> Outcome:
    error = failure.error
    reason = getattr(error, "message", "") or str(error) or "no HTTP"
    return BadResponse(f"What {failure.peer} answered is not valid HTTP: {first_line(reason)}.", failure.answer)


def _broken_off(failure: _Failure) -> Outcome:
    if isinstance(failure.error.__cause__, ssl.SSLError):
        return _tls_failed(failure._replace(error=failure.error.__cause__))
    return BadResponse(f"{failure.peer} closed the connection before its answer was complete.", failure.answer)


def _cannot_send(failure: _Failure) -> Outcome:
    return RenderFailed(f"The request cannot be sent: {first_line(str(failure.error))}.")


# The ONE place where foreign errors become outcomes; the first match counts, so subclasses stand before their bases.
_OUTCOMES: tuple[tuple[tuple[type[BaseException], ...], Callable[[_Failure], Outcome]], ...] = (
    ((aiohttp.ClientSSLError, aiohttp.ServerFingerprintMismatch, ssl.SSLError), _tls_failed),
    ((aiohttp.ServerTimeoutError,), _timed_out),
    ((AddressBlocked, aiohttp.ClientConnectorError), _not_connected),
    ((aiohttp.ClientPayloadError, aiohttp.UploadAbortedError), _broken_off),
    ((aiohttp.ClientResponseError, http_exceptions.HttpProcessingError, BadAnswer), _not_http),
    ((aiohttp.InvalidURL, aiohttp.RedirectClientError, aiohttp.NonHttpUrlClientError), _cannot_send),
    ((aiohttp.ClientConnectionError,), _broken_off),
    ((ValueError,), _cannot_send),
    # uvloop raises RuntimeError where asyncio raises OSError. ClientError stands for what a later aiohttp may add.
    ((OSError, RuntimeError, aiohttp.ClientError), _not_connected),
)
EXPECTED: tuple[type[BaseException], ...] = tuple(kind for kinds, _ in _OUTCOMES for kind in kinds)


def outcome_of(error: BaseException, url: URL, answer: HttpResponse | None = None) -> Outcome:
    """Return the outcome that an error of aiohttp or the system means; `answer` is what had arrived before it.

    An error that is none of theirs is raised: it is a defect here.
    """
    for kinds, make in _OUTCOMES:
        if isinstance(error, kinds):
            return make(_Failure(error, url, answer))
    raise error


def first_line(text: str) -> str:
    """Return the first line of a foreign message, short and without the full stop that the sentence will add."""
    return text.strip().partition("\n")[0].strip().rstrip(".:")[:200]
