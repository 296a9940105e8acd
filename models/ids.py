"""Ids: TypeIDs (github.com/jetify-com/typeid, spec 0.3) over UUIDv7.

A key is a UUID in the database and a TypeID (`evt_01h455vb4pex5vsknk084sn02q`) everywhere a person or a receiver sees
it. UUIDv7 (RFC 9562) grows with time, so the newest row has the greatest key and lists are paged by it.
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
    """The prefixes of the contract."""

    WEBHOOK = "whk"
    CHANGE = "chg"
    EVENT = "evt"
    ATTEMPT = "att"
    LEAD = "lead"
    ORDER = "ord"
    INBOX = "inb"
    REQUEST = "req"
    TOKEN = "tok"

    # Enum's own is written in Python, and ids are looked up by their prefix.
    __hash__ = str.__hash__


#: What a TypeID is made of besides its prefix: 128 bits in Crockford's base 32.
_TYPEID = re.compile(rf"({'|'.join(Prefix)})_[0-7][0-9a-hjkmnp-tv-z]{{25}}")


def new_key() -> UUID:
    """A new UUIDv7; greater than every one this process made before."""
    return uuid_utils.compat.uuid7()


def new_key_at(moment: dt.datetime) -> UUID:
    """A new UUIDv7 of this moment, for a row that belongs where it happened among those that were written before.

    Microseconds order those of one millisecond (RFC 9562, 6.2, method 3). The rest is random and nobody's secret, so
    the system is asked for the generator's seed alone (once in each process), and not for every key.
    """
    milliseconds, micros = divmod(round(moment.timestamp() * 1_000_000), 1_000)
    rest = random.getrandbits(62)
    return UUID(int=milliseconds << 80 | 0x7 << 76 | micros << 66 | 0b10 << 62 | rest)


def least_key_at(moment: dt.datetime, seconds: float = 0) -> UUID:
    """The least UUIDv7 that can be made so many seconds after a moment: a bound for the keys that are made then."""
    milliseconds = math.floor((moment.timestamp() + seconds) * 1000)
    return UUID(int=min(max(milliseconds, 0), 2**48 - 1) << 80)


@lru_cache(4_096)
def encode(prefix: str, key: UUID) -> str:
    """The TypeID of a key."""
    return f"{prefix}_{base32.encode(key.bytes)}"


def is_id(text: str) -> bool:
    """Whether the text is an id of any kind, whether there is such an object or not."""
    return _TYPEID.fullmatch(text) is not None


def decode(prefix: str, text: str) -> UUID:
    """The key in a TypeID; raises ValueError with a sentence when it is malformed or of another kind."""
    try:
        typeid = TypeID.from_string(text)
    except (TypeIDException, ValueError, TypeError) as error:
        raise ValueError(
            f"{text!r:.80} is not an id; one of this kind looks like {prefix}_01h455vb4pex5vsknk084sn02q"
        ) from error
    if typeid.prefix != prefix:
        raise ValueError(f"{text!r:.80} is not an id of this kind; expected one that begins with {prefix}_")
    return UUID(bytes=typeid.uuid_bytes)
