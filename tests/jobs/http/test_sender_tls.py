"""The sender against real TLS servers, and which certificate authorities it trusts."""

import asyncio
import ssl
from pathlib import Path

import pytest

from ringback.jobs.http.pool import SETTLE_SECONDS
from ringback.jobs.http.sender import Sender
from ringback.jobs.http.tls import make_tls_context
from ringback.jobs.outcomes import Delivered, HttpResponse, TlsFailed
from tests.support.authority import Authority
from tests.support.http_server import NO_AUTHORITIES, Server, answering, plain
from tests.support.sending import LOOPBACK, deliver


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def trust(authority: Authority) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(authority.file))


@pytest.mark.usefixtures("_long_keep_alive")
async def test_delivers_over_tls_and_keeps_the_connection(authority: Authority) -> None:
    server = answering(plain("200 OK", b"ok"), again=True)
    async with Sender(LOOPBACK, tls=trust(authority)) as sender, server.running(authority.server("127.0.0.1")):
        for _ in range(2):
            sent = await deliver(sender, server.url.with_scheme("https"))
            assert sent.outcome == Delivered(HttpResponse(200, (("Content-Length", "2"),), b"ok"))
            await asyncio.sleep(SETTLE_SECONDS * 2)
    assert (len(server.requests), server.connections) == (2, 1)


@pytest.mark.parametrize(
    ("host", "days", "trusted", "reason"),
    [
        ("127.0.0.1", -1, True, "certificate has expired"),
        ("127.0.0.1", 1, False, "unable to get local issuer certificate"),
        ("other.example", 1, True, "IP address mismatch, certificate is not valid for '127.0.0.1'"),
    ],
)
async def test_a_certificate_that_is_not_accepted_fails_before_anything_is_sent(
    authority: Authority, host: str, days: int, trusted: bool, reason: str
) -> None:
    server = answering(plain("200 OK"))
    tls = trust(authority) if trusted else NO_AUTHORITIES
    async with Sender(LOOPBACK, tls=tls) as sender, server.running(authority.server(host, days=days)):
        sent = await deliver(sender, server.url.with_scheme("https"))
    assert sent.outcome == TlsFailed(f"TLS with 127.0.0.1:{server.port} failed: {reason}.")
    assert sent.request is None
    assert server.requests == []


async def test_https_to_a_plain_server_fails_in_tls(sender: Sender) -> None:
    async def speak_first(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()

    server = Server(speak_first)
    async with server.running():
        sent = await deliver(sender, server.url.with_scheme("https"))
    assert sent.outcome == TlsFailed(
        f"TLS with 127.0.0.1:{server.port} failed: wrong version number. "
        "The endpoint seems to speak http: check the scheme and the port of the URL."
    )


async def test_http_to_a_tls_server_is_a_bad_response(sender: Sender, authority: Authority) -> None:
    server = answering(plain("200 OK"))
    async with server.running(authority.server("127.0.0.1")):
        sent = await deliver(sender, server.url)
    assert sent.outcome.name == "BAD_RESPONSE"


async def test_a_server_that_asks_for_a_client_certificate_fails_in_tls(authority: Authority) -> None:
    server = answering(plain("200 OK"))
    context = authority.server("127.0.0.1")
    context.load_verify_locations(cafile=authority.file)
    context.verify_mode = ssl.CERT_REQUIRED
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # in 1.3 the handshake is over before the server can object
    async with Sender(LOOPBACK, tls=trust(authority)) as sender, server.running(context):
        sent = await deliver(sender, server.url.with_scheme("https"))
    assert sent.outcome == TlsFailed(
        f"TLS with 127.0.0.1:{server.port} failed: the connection was closed during the handshake."
    )
    assert server.requests == []


def test_ssl_cert_file_adds_an_authority_and_removes_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("added", "system", "empty"):
        (tmp_path / name).mkdir()
    added, system = Authority(tmp_path / "added"), Authority(tmp_path / "system")
    store = ssl.get_default_verify_paths()._replace(
        openssl_cafile=str(system.file), openssl_capath=str(tmp_path / "empty")
    )
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "empty"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "missing.pem"))
    assert len(make_tls_context(store).get_ca_certs()) == 1
    monkeypatch.setenv("SSL_CERT_FILE", str(added.file))
    assert len(make_tls_context(store).get_ca_certs()) == 2


def test_tls_checks_certificates_and_names() -> None:
    context = make_tls_context()
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
