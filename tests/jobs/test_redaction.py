"""Redaction: which header values and query parameters are stored, and which are masked."""

import pytest

from ringback.jobs.redaction import MASK, redact, redact_url


@pytest.mark.parametrize(
    "name",
    [
        "Authorization",
        "authorization",
        "Proxy-Authorization",
        "X-Authorization",
        "Cookie",
        "X-Api-Key",
        "apikey",
        "X-APIKEY",
        "Ocp-Apim-Subscription-Key",
        "X-Auth-Token",
        "AccessToken",
        "X-Amz-Security-Token",
        "X-Shared-Secret",
        "client_secret",
        "X-Password",
        "X-Passwd",
        "X-Auth",
        "X-Session-Id",
        "Private-Key",
    ],
)
def test_the_value_of_a_header_that_names_a_secret_is_masked(name: str) -> None:
    assert redact(((name, "s3cr3t"),)) == [(name, MASK)]


@pytest.mark.parametrize(
    "name",
    [
        "Content-Type",
        "User-Agent",
        "PS-WEBHOOK_EVENT-ID",
        "Ringback-Event",
        "webhook-id",
        "webhook-timestamp",
        "webhook-signature",
        "Idempotency-Key",
        "X-Keyboard",
        "Author",
        "X-Authority-Name",
        "X-Monkey",
        "Accept",
    ],
)
def test_other_values_are_stored(name: str) -> None:
    assert redact(((name, "plain"),)) == [(name, "plain")]


@pytest.mark.parametrize(
    ("value", "redacted"),
    [
        ("Bearer abc.def", f"Bearer {MASK}"),
        ("Basic dXNlcjpwYXNz", f"Basic {MASK}"),
        ("Bearer", MASK),
        ("two words", f"two {MASK}"),
        ("correct-horse battery", MASK),
        ("averylongfirstword rest", MASK),
        ("", MASK),
    ],
)
def test_the_scheme_of_an_authorization_stays_readable(value: str, redacted: str) -> None:
    assert redact((("Authorization", value),)) == [("Authorization", redacted)]


def test_only_an_authorization_has_a_scheme() -> None:
    assert redact((("X-Password", "correct horse"),)) == [("X-Password", MASK)]


def test_order_and_repetitions_are_preserved() -> None:
    assert redact((("B", "1"), ("A", "2"), ("B", "3"))) == [("B", "1"), ("A", "2"), ("B", "3")]


@pytest.mark.parametrize("name", ["X-Signature", "X-Hub-Signature-256", "X-HMAC", "X-Bearer"])
def test_signatures_of_others_are_masked_but_not_our_own(name: str) -> None:
    assert redact(((name, "s3cr3t"), ("webhook-signature", "v1,abc"))) == [
        (name, MASK),
        ("webhook-signature", "v1,abc"),
    ]


@pytest.mark.parametrize(
    ("url", "redacted"),
    [
        ("https://x.example/a?b=c", "https://x.example/a?b=c"),
        ("https://x.example/?token=s3cr3t&a=%20b+c", f"https://x.example/?token={MASK}&a=%20b+c"),
        ("https://x.example/?api%5Fkey=s3cr3t", f"https://x.example/?api%5Fkey={MASK}"),
        ("https://x.example/?token&secret=", "https://x.example/?token&secret="),
        ("https://x.example/", "https://x.example/"),
    ],
)
def test_query_parameters_that_are_secrets_are_masked(url: str, redacted: str) -> None:
    assert redact_url(url) == redacted
