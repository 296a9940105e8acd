"""Signing secrets: what a new one is, and which ones can be used."""

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
@pytest.mark.parametrize("padding", ["kept", "left out"])
def test_accepts_24_to_64_bytes_padded_or_not(length: int, padding: str) -> None:
    text = base64.b64encode(b"k" * length).decode()
    assert check_secret("whsec_" + (text if padding == "kept" else text.rstrip("="))) is None


NO_PREFIX = "A signing secret begins with whsec_, followed by 24 to 64 bytes in base64."

NO_BASE64 = "What follows whsec_ in a signing secret must be base64 (A-Z a-z 0-9 + /)."


@pytest.mark.parametrize(
    ("secret", "sentence"),
    [
        ("", NO_PREFIX),
        ("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", NO_PREFIX),
        ("WHSEC_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", NO_PREFIX),
        ("whsec_" + "-_" * 20, NO_BASE64),
        ("whsec_MfKQ9r8GKYqrTwjUPD8I LPZIo2LaLaSw", NO_BASE64),
        ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwü", NO_BASE64),
        ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwA", NO_BASE64),
        ("whsec_", "The signing secret has 0 bytes; it needs 24 to 64 (counted after base64 is decoded)."),
        (
            "whsec_" + base64.b64encode(b"k" * 23).decode(),
            "The signing secret has 23 bytes; it needs 24 to 64 (counted after base64 is decoded).",
        ),
        (
            "whsec_" + base64.b64encode(b"k" * 65).decode(),
            "The signing secret has 65 bytes; it needs 24 to 64 (counted after base64 is decoded).",
        ),
    ],
)
def test_says_why_a_secret_cannot_be_used(secret: str, sentence: str) -> None:
    assert check_secret(secret) == sentence
    with pytest.raises(ValueError, match=re.escape(sentence)):
        signature_headers(event_id="evt_1", timestamp=1_700_000_000, body=b"", secret=secret)
