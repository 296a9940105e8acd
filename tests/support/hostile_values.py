"""Texts and numbers that databases store, compare or order differently."""

import random

_random = random.Random(1)
#: 1 MiB in UTF-8, hard to compress, so that an index entry of a part of it is as long as it can be.
_IDEOGRAPHS = "".join(chr(_random.randrange(0x20000, 0x2A000)) for _ in range(2**20 // 4))

#: Texts by what is special about them.
TEXTS: dict[str, str] = {
    "NUL": "a\0b",
    "lone surrogate": "a\ud800b",
    "reversed surrogates": "\udc00\ud800",
    "escaped NUL": "a\\u0000b",
    "wildcards": "100%_\\",
    "percent": "%",
    "underscore": "_",
    "backslash": "\\",
    "quotes": "a'b\"c`d",
    "statement": "'; DROP TABLE lead; --",
    "JSON path": '$.a[0]."b.c"',
    "placeholders": "$1 ?1 {} %s :a",
    "trailing space": "ab ",
    "no-break space": "a\u00a0b",
    "lower case": "straße и жук",
    "upper case": "STRASSE И ЖУК",
    "four letters i": "ıiIİ",
    "sigma": "ΣΑΣ σας",
    "ligature": "ﬁ ŉ ǰ",
    "composed": "é",
    "decomposed": "e\u0301",
    "emoji": "👩\u200d🚀",
    "control characters": "a\x01\x1f\x7f\x85b",
    "line breaks": "a\r\nb\u2028c",
    "bidirectional": "\u202eabc",
    "noncharacters": "\ufffe\uffff\U0010ffff",
    "replacement": "\ufffd",
    "byte order mark": "\ufeffa",
    "number": "1e400",
    "Liquid": "{{ '%00' | url_decode }}",
    "200 ideographs": _IDEOGRAPHS[:200],
    "255 ideographs": _IDEOGRAPHS[:255],
    "256 ideographs": _IDEOGRAPHS[:256],
    "10,000 ideographs": _IDEOGRAPHS[:10_000],
    "1 MiB": _IDEOGRAPHS,
}
#: Numbers in JSON.
NUMBERS = (
    "0", "-0", "-0.0", "0.1", "1.10", "1e2", "1E+2", "1e20", "1e21", "1e22", "123456789012345678", "9007199254740993",
    "9223372036854775807", "-9223372036854775808", "9223372036854775808", "18446744073709551616", "1" * 400,
    "0.30000000000000004", "12345678901234567890.12345678901234567890", "5e-324", "1e-400", "1.7976931348623157e308",
    "1e400", "-1e400", "NaN", "Infinity", "-Infinity",
)  # fmt: skip
#: Bytes that endpoints and clients send where HTTP expects text.
BYTES: dict[str, bytes] = {
    "NUL": b"a\0b",
    "invalid UTF-8": b"a\xff\xfe\xc0\x80b",
    "encoded surrogate": b"a\xed\xa0\x80b",
    "incomplete character": "ж".encode()[:1],
    "UTF-16": "жук".encode("utf-16"),
    "control characters": b"a\x01\x1b[31m\x7fb",
    "escaped NUL": b"a\\u0000b%00",
    "32 KiB": b"Az09" * 8_192,
}
