"""Tests of recognizing the URLs of this server's inboxes."""

import pytest
from yarl import URL

from ringback.models.inbox import InboxRequest
from ringback.models.security.inbox_addresses import InboxAddresses
from ringback.models.security.secret_box import SecretBox
from ringback.models.security.signing import new_signing_secret
from ringback.models.services.inboxes import Inboxes, InboxResponse, Received

TOKEN = "abc-DEF_123"
LONG = "http://shop.example:8000/inbox/" + "x" * 2_000


@pytest.mark.parametrize(
    ("public_url", "url"),
    [
        ("http://shop.example:8000", "http://shop.example:8000/inbox/abc-DEF_123"),
        ("http://shop.example:8000", "http://SHOP.example:8000/inbox/abc-DEF_123"),
        ("http://shop.example:8000", "HTTP://shop.example:8000/inbox/abc-DEF_123?a=b"),
        ("http://shop.example:8000", "http://shop.example:8000/x/../inbox/./abc-DEF_123"),
        ("http://shop.example:8000", "http://shop.example:8000/inbox/%61bc-DEF%5F123"),
        ("http://shop.example", "http://shop.example:80/inbox/abc-DEF_123"),
        ("https://shop.example:443", "https://shop.example/inbox/abc-DEF_123"),
        ("https://shop.example/hooks/", "https://shop.example/hooks/inbox/abc-DEF_123"),
        ("http://[::1]:8000", "http://[::1]:8000/inbox/abc-DEF_123"),
    ],
)
def test_the_url_of_an_inbox_gives_its_token(public_url: str, url: str) -> None:
    assert InboxAddresses(public_url).token(URL(url)) == TOKEN


@pytest.mark.parametrize(
    "url",
    [
        "https://shop.example:8000/inbox/abc-DEF_123",
        "http://shop.example/inbox/abc-DEF_123",
        "http://other.example:8000/inbox/abc-DEF_123",
        "http://shop.example:8000@evil.example/inbox/abc-DEF_123",
        "http://user@shop.example:8000/inbox/abc-DEF_123",
        "http://user:pass@shop.example:8000/inbox/abc-DEF_123",
        "http://shop.example:8000/inbox/",
        "http://shop.example:8000/inbox",
        "http://shop.example:8000/inbox/abc-DEF_123/more",
        "http://shop.example:8000/inbox/../graphql",
        "http://shop.example:8000/INBOX/abc-DEF_123",
        "http://shop.example:8000/x/inbox/abc-DEF_123",
        "/inbox/abc-DEF_123",
        "http://shop.example:8000/inbox/abc%2FDEF",
        "http://shop.example:8000/inbox/%00",
        "http://shop.example:8000/inbox/" + "x" * 65,
    ],
)
def test_every_other_url_gives_no_token(url: str) -> None:
    assert InboxAddresses("http://shop.example:8000").token(URL(url)) is None


def test_the_url_made_for_a_token_gives_the_token() -> None:
    for public_url in ("http://127.0.0.1:8000", "https://shop.example/", "https://shop.example/hooks/"):
        addresses = InboxAddresses(public_url)
        assert addresses.token(URL(addresses.url(TOKEN))) == TOKEN
        assert addresses.url(TOKEN).count("//") == 1


async def test_an_inbox_under_another_address_is_described(database: object) -> None:
    token = (await Inboxes(SecretBox("a key")).create(None, [InboxResponse()])).token
    addresses = InboxAddresses("http://shop.example:8001/hooks")

    for url in (f"http://shop.example:8000/inbox/{token}", f"https://127.0.0.1/x/inbox/{token}?a=b"):
        assert await addresses.describe_move(url) == (
            "The URL is that of an inbox of this installation under another address; its inboxes are below "
            "http://shop.example:8001/hooks/inbox/ now. "
            "Update the URL, or set RINGBACK_PUBLIC_URL or RINGBACK_PORT to its address."
        )
    for url in (f"http://shop.example/inbox/{token}x", "http://shop.example", f"http://[/inbox/{token}", LONG):
        assert await addresses.describe_move(url) is None


async def test_the_url_of_a_missing_inbox_is_not_own(database: object) -> None:
    addresses = InboxAddresses("http://shop.example:8000")
    for url in ("http://shop.example:8000/inbox/abc", "http://[", "", "http://shop.example:99999/inbox/abc", LONG):
        assert await addresses.is_own(url) is False


async def test_a_request_is_stored_when_its_signature_cannot_be_checked(database: object) -> None:
    inbox = await Inboxes(SecretBox("the key before")).create("one", [InboxResponse()], new_signing_secret())
    signed = Received("POST", "/", (("webhook-signature", "v1,x"),), b"body", None)
    assert await Inboxes(SecretBox("the key now")).receive(inbox.token, signed) == InboxResponse()
    (stored,) = await InboxRequest.all()
    assert (stored.signature, bytes(stored.body)) == ("NOT_CHECKED", b"body")


@pytest.mark.parametrize(
    ("host", "port", "may_be"),
    [
        ("xn--bcher-kva.example", 8_000, True),
        ("xn--bcher-kva.example", None, True),
        (None, 8_000, True),
        (None, None, True),
        ("xn--bcher-kva.example", 22, False),
        ("other.example", 8_000, False),
        ("other.example", None, False),
        (None, 22, False),
    ],
)
def test_a_url_may_lead_to_this_server_unless_host_or_port_differ(
    host: str | None, port: int | None, may_be: bool
) -> None:
    assert InboxAddresses("http://BÜcher.example:8000").may_be_here(host, port) is may_be
