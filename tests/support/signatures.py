"""Signed requests, as receivers see them."""

from ringback.models.security.signing import ID_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER, compute_signature


def signature_headers(*, event_id: str, timestamp: int, body: bytes, secret: str) -> dict[str, str]:
    """The three Standard Webhooks headers of one attempt; raises ValueError as `compute_signature` does."""
    moment = str(timestamp)
    return {
        ID_HEADER: event_id,
        TIMESTAMP_HEADER: moment,
        SIGNATURE_HEADER: compute_signature(event_id, moment, body, secret),
    }
