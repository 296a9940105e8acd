"""Ids: TypeIDs (github.com/jetify-com/typeid, spec 0.3) over UUIDv7.

The database stores a UUID. People and receivers see a TypeID such as `evt_01h455vb4pex5vsknk084sn02q`. UUIDv7 (RFC
9562) grows with time, so the newest row has the greatest key, and lists are paged by it.
"""

import datetime as dt
import math
import random
import re
from enum import StrEnum
from functools import lru_cache
from uuid import UUID

import uuid_utils.compat
from typeid import TypeID
from typeid.codecs import base32
from typeid.errors import TypeIDException


class Prefix(StrEnum):
    """Prefix of an id, by kind of object."""

    WEBHOOK = "whk"
    CHANGE = "chg"
    EVENT = "evt"
    ATTEMPT = "att"
    LEAD = "lead"
    ORDER = "ord"
    INBOX = "inb"
    REQUEST = "req"
    TOKEN = "tok"

    # The hash of Enum is written in Python and slow, and `encode` looks prefixes up in its cache.
    __hash__ = str.__hash__


#: A prefix, an underscore, and 128 bits in Crockford's base 32.
_TYPEID = re.compile(rf"({'|'.join(Prefix)})_[0-7][0-9a-hjkmnp-tv-z]{{25}}")


def new_key() -> UUID:
    """Return a new UUIDv7, greater than all that this process has made before."""
    return uuid_utils.compat.uuid7()


def new_key_at(time: dt.datetime) -> UUID:
    """Return a new UUIDv7 for a past time, so that the row is listed where it belongs.

    Microseconds order the keys of one millisecond (RFC 9562, section 6.2, method 3). The other bits are not secret, so
    they come from `random`, which needs no system call for each key.
    """
    milliseconds, microseconds = divmod(round(time.timestamp() * 1_000_000), 1_000)
    random_bits = random.getrandbits(62)
    return UUID(int=milliseconds << 80 | 0x7 << 76 | microseconds << 66 | 0b10 << 62 | random_bits)


def least_key_at(time: dt.datetime, seconds: float = 0) -> UUID:
    """Return the lower bound of all UUIDv7 keys made `seconds` after a time or later."""
    milliseconds = math.floor((time.timestamp() + seconds) * 1000)
    clamped = min(max(milliseconds, 0), 2**48 - 1)
    return UUID(int=clamped << 80)


@lru_cache(4_096)
def encode(prefix: str, key: UUID) -> str:
    """Return the TypeID of a key."""
    return f"{prefix}_{base32.encode(key.bytes)}"


def is_id(text: str) -> bool:
    """Return whether a text is a TypeID of any kind, even if no such object exists."""
    return _TYPEID.fullmatch(text) is not None


def decode(prefix: str, text: str) -> UUID:
    """Return the key of a TypeID. Raises ValueError with a sentence if it is malformed or has another prefix."""
    try:
        typeid = TypeID.from_string(text)
    except (TypeIDException, ValueError, TypeError) as error:
        raise ValueError(
            f"{text!r:.80} is not an id. Expected an id such as {prefix}_01h455vb4pex5vsknk084sn02q."
        ) from error
    if typeid.prefix != prefix:
        raise ValueError(f"{text!r:.80} is not an id of this kind. Expected one that starts with {prefix}_.")
    return UUID(bytes=typeid.uuid_bytes)
