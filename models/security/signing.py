"""Standard Webhooks signatures (standardwebhooks.com, version 1.0.0): HMAC-SHA256 over "<id>.<timestamp>.<body>".

This replaces the `standardwebhooks` library, which signs only text (a received body may be any bytes), reads the clock,
and raises binascii.Error or UnicodeDecodeError for malformed requests. The tests compare both.
"""

import base64
import hmac
import re
import secrets as randomness
from binascii import b2a_base64
from collections.abc import Mapping
from functools import lru_cache

from ringback.models.enums import SignatureCheck

SECRET_PREFIX = "whsec_"
#: Limits of the specification, section "Signature scheme".
MIN_SECRET_BYTES = 24
MAX_SECRET_BYTES = 64
NEW_SECRET_BYTES = 32

ID_HEADER = "webhook-id"
TIMESTAMP_HEADER = "webhook-timestamp"
SIGNATURE_HEADER = "webhook-signature"
_TIMESTAMP = re.compile(r"[0-9]{1,12}")


def new_signing_secret() -> str:
    """Return a new signing secret: `whsec_` and 32 random bytes in base64."""
    return SECRET_PREFIX + base64.b64encode(randomness.token_bytes(NEW_SECRET_BYTES)).decode()


def check_secret(secret: str) -> str | None:
    """Return why a secret cannot be used, as a sentence for the person who entered it, or None if it can."""
    try:
        _decode_secret(secret)
    except ValueError as problem:
        return str(problem)
    return None


def compute_signature(event_id: str, timestamp: str, body: bytes, secret: str) -> str:
    """Return the value of the signature header of an attempt. Raises ValueError for a secret that cannot be used."""
    mac = _compute_mac(secret, event_id, timestamp, body)
    return f"v1,{b2a_base64(mac, newline=False).decode()}"


def verify(headers: Mapping[str, str], body: bytes, secret: str) -> SignatureCheck:
    """Return whether a received request has a signature made with `secret`. Never raises.

    Header names match in any case. The timestamp may have any age, because a request may be checked long after it was
    received. Signatures of other versions than v1 are ignored, as the specification requires.
    """
    received = {name.lower(): value for name, value in headers.items()}
    signatures = received.get(SIGNATURE_HEADER)
    if signatures is None:
        return SignatureCheck.ABSENT
    event_id, timestamp = received.get(ID_HEADER), received.get(TIMESTAMP_HEADER)
    if not event_id or timestamp is None or not _TIMESTAMP.fullmatch(timestamp) or check_secret(secret) is not None:
        return SignatureCheck.INVALID
    expected = _compute_mac(secret, event_id, timestamp, body)
    for signature in _parse_v1_signatures(signatures):
        if hmac.compare_digest(expected, signature):
            return SignatureCheck.VALID
    return SignatureCheck.INVALID


@lru_cache(16_384)
def _decode_secret(secret: str) -> bytes:
    """Return the bytes of a secret. Raises ValueError with a sentence for the person who entered it."""
    if not secret.startswith(SECRET_PREFIX):
        raise ValueError(f"A signing secret begins with {SECRET_PREFIX}, followed by 24 to 64 bytes in base64.")
    text = secret.removeprefix(SECRET_PREFIX)
    try:
        # Padding is optional, as in the reference libraries.
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError:
        raise ValueError(
            f"A signing secret must be base64 (A-Z a-z 0-9 + /) after the prefix {SECRET_PREFIX}."
        ) from None
    if not MIN_SECRET_BYTES <= len(key) <= MAX_SECRET_BYTES:
        raise ValueError(
            f"The signing secret has {len(key)} bytes after base64 decoding; it needs {MIN_SECRET_BYTES} to "
            f"{MAX_SECRET_BYTES}."
        )
    return key


def _compute_mac(secret: str, event_id: str, timestamp: str, body: bytes) -> bytes:
    # surrogatepass: a header value that is not UTF-8 arrives with surrogates, which must not raise here.
    signed = f"{event_id}.{timestamp}.".encode("utf-8", "surrogatepass") + body
    return hmac.digest(_decode_secret(secret), signed, "sha256")


def _parse_v1_signatures(header: str) -> list[bytes]:
    signatures = []
    for item in header.split(" "):
        version, _, encoded = item.partition(",")
        if version == "v1":
            try:
                signatures.append(base64.b64decode(encoded, validate=True))
            except ValueError:
                continue
    return signatures
