"""Tests of signatures: the specification's example, the reference library, and malformed requests."""

import base64
import datetime as dt
import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook

from ringback.models.enums import SignatureCheck
from ringback.models.security.signing import new_signing_secret, verify
from tests.support.signatures import signature_headers
from tests.support.unhurried import unhurried

# Published with the specification (standardwebhooks.com) and the libraries that implement it.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

EVENT_ID = "msg_p5jXN8AQM9LWM0D4loKWxJek"

TIMESTAMP = 1614265330

BODY = b'{"test": 2432232314}'

SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="

OTHER_SECRET = "whsec_" + base64.b64encode(b"another secret of 32 bytes......").decode()


def published(**changes: str) -> dict[str, str]:
    headers = {"webhook-id": EVENT_ID, "webhook-timestamp": str(TIMESTAMP), "webhook-signature": SIGNATURE}
    return headers | {name.replace("_", "-"): value for name, value in changes.items()}


def test_the_signature_of_the_specifications_example() -> None:
    assert signature_headers(event_id=EVENT_ID, timestamp=TIMESTAMP, body=BODY, secret=SECRET) == published()


def test_the_specifications_example_is_valid() -> None:
    assert verify(published(), BODY, SECRET) is SignatureCheck.VALID


def test_a_body_that_is_not_text_is_signed_and_verified() -> None:
    body = b"\xff\x00\xfe"
    key = base64.b64decode(SECRET.removeprefix("whsec_"))
    mac = hmac.new(key, b"evt_1.1700000000." + body, hashlib.sha256).digest()
    headers = signature_headers(event_id="evt_1", timestamp=1_700_000_000, body=body, secret=SECRET)
    assert headers["webhook-signature"] == "v1," + base64.b64encode(mac).decode()
    assert verify(headers, body, SECRET) is SignatureCheck.VALID


def test_each_of_several_signatures_verifies() -> None:
    """A sender that is replacing its secret signs with both the old and the new one."""
    signed = signature_headers(event_id="evt_1", timestamp=TIMESTAMP, body=BODY, secret=SECRET)
    signed_with_other = signature_headers(event_id="evt_1", timestamp=TIMESTAMP, body=BODY, secret=OTHER_SECRET)
    both = f"{signed['webhook-signature']} {signed_with_other['webhook-signature']}"
    headers = signed | {"webhook-signature": both}
    assert verify(headers, BODY, SECRET) is SignatureCheck.VALID
    assert verify(headers, BODY, OTHER_SECRET) is SignatureCheck.VALID
    assert verify(headers, BODY, new_signing_secret()) is SignatureCheck.INVALID


@unhurried
@given(
    event_id=st.text("abcdefghijklmnopqrstuvwxyz0123456789_", min_size=1),
    text=st.text(),
    key=st.binary(min_size=24, max_size=64),
)
def test_the_reference_library_agrees(event_id: str, text: str, key: bytes) -> None:
    secret = "whsec_" + base64.b64encode(key).decode()
    now = dt.datetime.now(dt.UTC)
    body = text.encode()
    ours = signature_headers(event_id=event_id, timestamp=int(now.timestamp()), body=body, secret=secret)
    library = Webhook(secret)
    assert ours["webhook-signature"] == library.sign(msg_id=event_id, timestamp=now, data=text)
    library.verify(body, ours, json_parse=False)
    assert verify(ours, body, secret) is SignatureCheck.VALID


def test_header_names_match_in_any_case() -> None:
    headers = {name.title(): value for name, value in published().items()}
    assert verify(headers, BODY, SECRET) is SignatureCheck.VALID


def test_a_request_without_a_signature_header_is_absent() -> None:
    assert verify({}, BODY, SECRET) is SignatureCheck.ABSENT
    assert verify({"webhook-id": "a", "webhook-timestamp": "1"}, BODY, SECRET) is SignatureCheck.ABSENT


@pytest.mark.parametrize(
    "headers",
    [
        {"webhook-signature": SIGNATURE},
        {"webhook-signature": SIGNATURE, "webhook-id": EVENT_ID},
        {"webhook-signature": SIGNATURE, "webhook-timestamp": str(TIMESTAMP)},
        published(webhook_id=""),
        published(webhook_id=EVENT_ID + "x"),
        published(webhook_id="\udcff"),
        published(webhook_timestamp=str(TIMESTAMP + 1)),
        published(webhook_timestamp="1614265330.0"),
        published(webhook_timestamp="+1614265330"),
        published(webhook_timestamp="١٦١٤٢٦٥٣٣٠"),
        published(webhook_timestamp="9" * 5_000),
        published(webhook_timestamp=""),
        published(webhook_timestamp="yesterday"),
        published(webhook_signature=""),
        published(webhook_signature="v1"),
        published(webhook_signature="v1,"),
        published(webhook_signature="v1,not base64"),
        published(webhook_signature="v1,ünïcode"),
        published(webhook_signature="v1,\udcff"),
        published(webhook_signature="v1,AAAA"),
        published(webhook_signature=SIGNATURE[:-2]),
        published(webhook_signature=SIGNATURE.replace("v1,", "v1a,")),
        published(webhook_signature=SIGNATURE.removeprefix("v1,")),
    ],
)
def test_a_request_with_a_wrong_or_malformed_signature_is_invalid(headers: dict[str, str]) -> None:
    assert verify(headers, BODY, SECRET) is SignatureCheck.INVALID


def test_a_signature_of_another_body_is_invalid() -> None:
    assert verify(published(), BODY + b" ", SECRET) is SignatureCheck.INVALID


@pytest.mark.parametrize("secret", ["", "plain", "whsec_", "whsec_AAAA", "whsec_not base64"])
def test_with_an_unusable_secret_every_signature_is_invalid(secret: str) -> None:
    assert verify(published(), BODY, secret) is SignatureCheck.INVALID


def test_other_versions_and_malformed_signatures_beside_a_valid_one_are_ignored() -> None:
    headers = published(webhook_signature=f"v1a,AAAA v1,%% v2 {SIGNATURE}")
    assert verify(headers, BODY, SECRET) is SignatureCheck.VALID


@unhurried
@given(st.dictionaries(st.sampled_from(["webhook-id", "Webhook-Timestamp", "webhook-signature"]), st.text()))
def test_verify_never_raises(headers: dict[str, str]) -> None:
    assert verify(headers, b"", SECRET) in (SignatureCheck.INVALID, SignatureCheck.ABSENT)
