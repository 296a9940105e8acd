"""Standard Webhooks signatures (standardwebhooks.com, version 1.0.0): HMAC-SHA256 over "<id>.<timestamp>.<body>".

A few lines of our own instead of the `standardwebhooks` library, for what the library does not do: it signs text only,
while a captured body may be any bytes; it reads the clock; and a malformed request makes it raise binascii.Error or
UnicodeDecodeError. The tests hold both against each other.
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
#: Bytes of a secret; the specification's bounds ("Signature scheme": 24 to 64 bytes).
MIN_SECRET_BYTES = 24
MAX_SECRET_BYTES = 64
#: Bytes of a secret that is made here.
NEW_SECRET_BYTES = 32

ID_HEADER = "webhook-id"
TIMESTAMP_HEADER = "webhook-timestamp"
SIGNATURE_HEADER = "webhook-signature"
_TIMESTAMP = re.compile(r"[0-9]{1,12}")


def new_signing_secret() -> str:
    """Return a fresh signing secret: `whsec_` and 32 random bytes in base64."""
    return SECRET_PREFIX + base64.b64encode(randomness.token_bytes(NEW_SECRET_BYTES)).decode()


def check_secret(secret: str) -> str | None:
    """Return the sentence that says why a secret given by a person cannot be used, or None when it can."""
    try:
        _key(secret)
    except ValueError as problem:
        return str(problem)
    return None


def compute_signature(event_id: str, timestamp: str, body: bytes, secret: str) -> str:
    """Return the value of the header that signs an attempt; raises ValueError where `check_secret` refuses."""
    mac = _mac(secret, event_id, timestamp, body)
    return f"v1,{b2a_base64(mac, newline=False).decode()}"


def verify(headers: Mapping[str, str], body: bytes, secret: str) -> SignatureCheck:
    """Say whether a received request carries a signature made with `secret`; never raises, whatever was received.

    Header names match in any case. The timestamp may have any age: requests are looked at long after. Signatures of
    other versions than v1 are passed over, as the specification asks.
    """
    received = {name.lower(): value for name, value in headers.items()}
    signatures = received.get(SIGNATURE_HEADER)
    if signatures is None:
        return SignatureCheck.ABSENT
    event_id, timestamp = received.get(ID_HEADER), received.get(TIMESTAMP_HEADER)
    if not event_id or timestamp is None or not _TIMESTAMP.fullmatch(timestamp) or check_secret(secret) is not None:
        return SignatureCheck.INVALID
    expected = _mac(secret, event_id, timestamp, body)
    valid = any(hmac.compare_digest(expected, given) for given in _v1_signatures(signatures))
    return SignatureCheck.VALID if valid else SignatureCheck.INVALID


@lru_cache(16_384)
def _key(secret: str) -> bytes:
    """Return the bytes of a secret; raises ValueError with a sentence for the person who gave it."""
    if not secret.startswith(SECRET_PREFIX):
        raise ValueError(f"A signing secret begins with {SECRET_PREFIX}, followed by 24 to 64 bytes in base64.")
    text = secret.removeprefix(SECRET_PREFIX)
    try:
        # Padding may be left out: the reference libraries accept that too.
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError:
        raise ValueError(
            f"What follows {SECRET_PREFIX} in a signing secret must be base64 (A-Z a-z 0-9 + /)."
        ) from None
    if not MIN_SECRET_BYTES <= len(key) <= MAX_SECRET_BYTES:
        raise ValueError(
            f"The signing secret has {len(key)} bytes; it needs {MIN_SECRET_BYTES} to {MAX_SECRET_BYTES} "
            "(counted after base64 is decoded)."
        )
    return key


def _mac(secret: str, event_id: str, timestamp: str, body: bytes) -> bytes:
    # surrogatepass: header values that were no UTF-8 arrive with surrogates, and must not make this raise.
    signed = f"{event_id}.{timestamp}.".encode("utf-8", "surrogatepass") + body
    return hmac.digest(_key(secret), signed, "sha256")


def _v1_signatures(header: str) -> list[bytes]:
    found = []
    for item in header.split(" "):
        version, _, encoded = item.partition(",")
        if version == "v1":
            try:
                found.append(base64.b64decode(encoded, validate=True))
            except ValueError:
                continue
    return found
