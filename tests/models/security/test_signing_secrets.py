"""Tests of signing secrets: new ones, and which ones can be used."""

import base64
import re

import pytest

from ringback.models.security.signing import check_secret, new_signing_secret
from tests.support.signatures import signature_headers


def test_a_new_secret_is_32_random_bytes() -> None:
    secrets = {new_signing_secret() for _ in range(20)}
    assert len(secrets) == 20
    for secret in secrets:
        assert secret.startswith("whsec_")
        assert len(base64.b64decode(secret.removeprefix("whsec_"), validate=True)) == 32
        assert check_secret(secret) is None


@pytest.mark.parametrize("length", [24, 25, 26, 63, 64])
@pytest.mark.parametrize("has_padding", [True, False])
def test_secrets_of_24_to_64_bytes_are_accepted_with_or_without_padding(length: int, has_padding: bool) -> None:
    text = base64.b64encode(b"k" * length).decode()
    if not has_padding:
        text = text.rstrip("=")
    assert check_secret(f"whsec_{text}") is None


NO_PREFIX = "A signing secret begins with whsec_, followed by 24 to 64 bytes in base64."

NO_BASE64 = "A signing secret must be base64 (A-Z a-z 0-9 + /) after the prefix whsec_."


@pytest.mark.parametrize(
    ("secret", "message"),
    [
        ("", NO_PREFIX),
        ("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", NO_PREFIX),
        ("WHSEC_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", NO_PREFIX),
        ("whsec_" + "-_" * 20, NO_BASE64),
        ("whsec_MfKQ9r8GKYqrTwjUPD8I LPZIo2LaLaSw", NO_BASE64),
        ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwü", NO_BASE64),
        ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwA", NO_BASE64),
        ("whsec_", "The signing secret has 0 bytes after base64 decoding; it needs 24 to 64."),
        (
            "whsec_" + base64.b64encode(b"k" * 23).decode(),
            "The signing secret has 23 bytes after base64 decoding; it needs 24 to 64.",
        ),
        (
            "whsec_" + base64.b64encode(b"k" * 65).decode(),
            "The signing secret has 65 bytes after base64 decoding; it needs 24 to 64.",
        ),
    ],
)
def test_an_unusable_secret_is_refused_with_a_message(secret: str, message: str) -> None:
    assert check_secret(secret) == message
    with pytest.raises(ValueError, match=re.escape(message)):
        signature_headers(event_id="evt_1", timestamp=1_700_000_000, body=b"", secret=secret)
