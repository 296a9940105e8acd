"""The error mapping: each error of aiohttp and the system becomes an outcome."""

import ssl

import aiohttp
import pytest
from aiohttp import client_exceptions, http_exceptions
from aiohttp.client_reqrep import ConnectionKey
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from ringback.jobs.http.error_mapping import to_outcome
from ringback.jobs.outcomes import BadResponse, HttpResponse, Outcome, RenderFailed, TimedOut, TlsFailed, Unreachable

HOOK_URL = URL("http://hooks.example:8080/in")


KEY = ConnectionKey("hooks.example", 8080, False, True, None, None, None)
INFO = aiohttp.RequestInfo(HOOK_URL, "POST", CIMultiDictProxy(CIMultiDict()), HOOK_URL)
NO_ROUTE = OSError(113, "No route to host")
CLOSED = BadResponse("hooks.example:8080 closed the connection before its response was complete.")
INVALID = BadResponse("hooks.example:8080 did not answer with valid HTTP: Bad thing.")
UNROUTED = Unreachable("No connection to hooks.example:8080: No route to host.")
TLS = TlsFailed("TLS with hooks.example:8080 failed: handshake failed.")
LATE = TimedOut("hooks.example:8080 did not answer in time.")
UNSENDABLE = RenderFailed("The request cannot be sent: bad url.")

MAPPED: list[tuple[aiohttp.ClientError, Outcome]] = [
    (aiohttp.ClientResponseError(INFO, (), message="Bad thing"), INVALID),
    (aiohttp.ContentTypeError(INFO, (), message="Bad thing"), INVALID),
    (aiohttp.WSServerHandshakeError(INFO, (), message="Bad thing"), INVALID),
    (aiohttp.ClientHttpProxyError(INFO, (), message="Bad thing"), INVALID),
    (aiohttp.TooManyRedirects(INFO, (), message="Bad thing"), INVALID),
    (aiohttp.ClientConnectionError("x"), CLOSED),
    (aiohttp.ClientConnectionResetError("x"), CLOSED),
    (aiohttp.ClientOSError(104, "Connection reset by peer"), CLOSED),
    (aiohttp.ServerConnectionError("x"), CLOSED),
    (aiohttp.ServerDisconnectedError(), CLOSED),
    (aiohttp.ClientPayloadError("x"), CLOSED),
    (client_exceptions.UploadAbortedError("x"), CLOSED),
    (aiohttp.ClientConnectorError(KEY, NO_ROUTE), UNROUTED),
    (aiohttp.ClientConnectorDNSError(KEY, NO_ROUTE), UNROUTED),
    (aiohttp.ClientProxyConnectionError(KEY, NO_ROUTE), UNROUTED),
    (client_exceptions.UnixClientConnectorError("/run/x", KEY, NO_ROUTE), UNROUTED),
    (aiohttp.ClientSSLError(KEY, OSError()), TLS),
    (aiohttp.ClientConnectorSSLError(KEY, ssl.SSLError()), TLS),
    (aiohttp.ClientConnectorCertificateError(KEY, ssl.SSLCertVerificationError()), TLS),
    (aiohttp.ServerFingerprintMismatch(b"", b"", "hooks.example", 8080), TLS),
    (aiohttp.ServerTimeoutError(), LATE),
    (aiohttp.ConnectionTimeoutError(), LATE),
    (aiohttp.SocketTimeoutError(), LATE),
    (aiohttp.InvalidURL("bad url"), UNSENDABLE),
    (aiohttp.InvalidUrlClientError("bad url"), UNSENDABLE),
    (aiohttp.RedirectClientError("bad url"), UNSENDABLE),
    (aiohttp.NonHttpUrlClientError("bad url"), UNSENDABLE),
    (aiohttp.InvalidUrlRedirectClientError("bad url"), UNSENDABLE),
    (aiohttp.NonHttpUrlRedirectClientError("bad url"), UNSENDABLE),
]


def below(kind: type[aiohttp.ClientError]) -> set[type[aiohttp.ClientError]]:
    return {kind for direct in kind.__subclasses__() for kind in (direct, *below(direct))}


def test_no_error_of_aiohttp_is_unmapped() -> None:
    assert {type(error) for error, _ in MAPPED} == below(aiohttp.ClientError)


@pytest.mark.parametrize(("error", "outcome"), MAPPED, ids=lambda value: type(value).__name__)
def test_maps_each_error_of_aiohttp(error: aiohttp.ClientError, outcome: Outcome) -> None:
    assert to_outcome(error, HOOK_URL) == outcome


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (ConnectionRefusedError(111, "Connection refused"), Unreachable("Connection refused by hooks.example:8080.")),
        (OSError(24, "Too many open files"), Unreachable("No connection to hooks.example:8080: Too many open files.")),
        (RuntimeError("unable to connect"), Unreachable("No connection to hooks.example:8080: unable to connect.")),
        (ConnectionResetError(), Unreachable("No connection to hooks.example:8080: it was closed at once.")),
        (UnicodeError("label too long"), RenderFailed("The request cannot be sent: label too long.")),
        (
            http_exceptions.LineTooLong("x", 1),
            BadResponse("hooks.example:8080 did not answer with valid HTTP: Got more than 1 bytes when reading: 'x'."),
        ),
    ],
)
def test_maps_the_systems_errors(error: Exception, outcome: Outcome) -> None:
    assert to_outcome(error, HOOK_URL) == outcome


def test_a_broken_connection_keeps_the_part_that_arrived() -> None:
    answer = HttpResponse(200, (), b"half", body_truncated=True)
    for error in (
        aiohttp.ClientOSError(104, "reset"),
        RuntimeError("Connection closed."),
        aiohttp.ClientPayloadError(),
    ):
        assert to_outcome(error, HOOK_URL, answer) == BadResponse(CLOSED.error, answer)


def test_a_tls_alert_that_comes_after_the_handshake_is_a_tls_failure() -> None:
    error = aiohttp.ClientOSError(1, "[SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED]")
    error.__cause__ = ssl.SSLError(1, "[SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED]")
    error.__cause__.reason = "TLSV13_ALERT_CERTIFICATE_REQUIRED"
    assert to_outcome(error, HOOK_URL) == TlsFailed(
        "TLS with hooks.example:8080 failed: tlsv13 alert certificate required."
    )


def test_a_foreign_message_is_cut_to_one_short_line() -> None:
    outcome = to_outcome(RuntimeError("first line.\nsecond line"), HOOK_URL)
    assert outcome == Unreachable("No connection to hooks.example:8080: first line.")
    long = to_outcome(RuntimeError("x" * 10_000), HOOK_URL).error
    assert long is not None and len(long) < 300


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(113, "Connect call failed ('10.0.0.5', 80)"), "No route to host"),
        (OSError(113, "Multiple exceptions: [Errno 113] Connect call failed ('10.0.0.5', 80)"), "No route to host"),
        (
            OSError("Multiple exceptions: [Errno 113] … ('10.0.0.5', 80), [Errno 111] … ('10.0.0.6', 80)"),
            "none of its addresses accepts one",
        ),
        (RuntimeError("Multiple exceptions: a ('10.0.0.5', 80), b"), "none of its addresses accepts one"),
    ],
)
def test_the_addresses_of_a_host_are_not_named(error: Exception, reason: str) -> None:
    assert to_outcome(error, HOOK_URL) == Unreachable(f"No connection to hooks.example:8080: {reason}.")


def test_an_error_of_our_own_is_raised() -> None:
    with pytest.raises(KeyError):
        to_outcome(KeyError("ours"), HOOK_URL)
