"""The charset of a body: named by the content type, and applied to the rendered text."""

import codecs
import json
import re
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import unquote_plus

from ringback.models.templates.filters.text import quote_bytes

_FORM = "application/x-www-form-urlencoded"
_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_QUOTED_STRING = r'"(?:[^"\\]|\\.)*"'
#: The parameters of a media type (RFC 9110, 5.6.6).
_PARAMETERS = re.compile(rf"(?:[ \t]*;[ \t]*+(?:{_TOKEN}=(?:{_TOKEN}|{_QUOTED_STRING}))?)*")
#: A parameter as lenient receivers read it, and as webhooks that were saved earlier may have it.
_LENIENT_PARAMETER = re.compile(rf";[ \t]*([^=; \t]+)[ \t]*=[ \t]*({_QUOTED_STRING}|[^;]*)")
_QUOTED_PAIR = re.compile(r"\\(.)")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:+-]*")
#: Codecs of charsets whose names in IANA's registry Python does not know.
_CODECS = {
    "windows-31j": "cp932", "cswindows31j": "cp932", "windows-874": "cp874", "cswindows874": "cp874",
    **{f"cswindows{page}": f"cp{page}" for page in range(1250, 1259)},
    **{f"iso-8859-{part}-{direction}": f"iso8859-{part}" for part in (6, 8) for direction in "ei"},
    **{f"csiso8859{part}{direction}": f"iso8859-{part}" for part in (6, 8) for direction in "ei"},
    "csutf8": "utf-8", "cskoi8u": "koi8-u", "cseuckr": "euc_kr", "csgb2312": "gb2312", "csgbk": "gbk",
    "csgb18030": "gb18030", "csbig5hkscs": "big5hkscs", "cseucpkdfmtjapanese": "euc_jp",
}  # fmt: skip
_ASCII = "".join(map(chr, range(0x20, 0x7F)))
#: Codecs of Python that are no charsets, by their canonical names.
_NO_CHARSETS = frozenset(
    {"charmap", "idna", "mbcs", "oem", "punycode", "raw-unicode-escape", "undefined", "unicode-escape", "utf-8-sig"}
)


class BodyCharset(NamedTuple):
    """A charset as the content type names it, and its codec. `is_form` says that the body is a form."""

    label: str
    codec: str
    is_form: bool

    @property
    def is_utf8(self) -> bool:
        """Whether the body needs no other encoding."""
        return self.codec == "utf-8"


def find_charset_problem(content_type: str, field: str = "contentType") -> str | None:
    """Return a message about a charset that a body cannot have, or about parameters that may hide one, or None.

    `field` is the content type's name in the message.
    """
    problem = _find_label_problem(content_type)
    if problem is not None:
        return f"{field} {problem}"
    media_type = content_type.partition(";")[0]
    if not _PARAMETERS.fullmatch(content_type, len(media_type)):
        return (
            f"{field} is {content_type!r:.80}, whose parameters cannot be read. "
            "Write each as name=value, without spaces, such as charset=utf-8."
        )
    return None


def body_charset(content_type: str) -> BodyCharset:
    """Return the charset of a content type: UTF-8 if it names none, or names one that a body cannot have."""
    is_form = _is_form(content_type)
    labels = _find_labels(content_type)
    if labels and _find_label_problem(content_type) is None:
        codec = _find_codec(labels[0])
        if codec is not None:
            return BodyCharset(label=labels[0], codec=codec, is_form=is_form)
    return BodyCharset(label="utf-8", codec="utf-8", is_form=is_form)


def encode_body(text: str, content_type: str) -> bytes:
    """Return a text in the charset of its content type, with a question mark for what the charset lacks."""
    return text.encode(body_charset(content_type).codec, "replace")


class BodyEncoder:
    """Encoder of one body in a charset other than UTF-8, which remembers whether the charset lacks characters of it."""

    __slots__ = ("_charset", "has_replaced")

    def __init__(self, charset: BodyCharset) -> None:
        self._charset = charset
        #: Whether characters were replaced by question marks.
        self.has_replaced = False

    def encode(self, text: str) -> bytes:
        """Return the text in the charset, with a question mark for each character that the charset lacks."""
        try:
            return text.encode(self._charset.codec)
        except UnicodeEncodeError:
            self.has_replaced = True
            return text.encode(self._charset.codec, "replace")

    def encode_json(self, text: str) -> bytes:
        """Return JSON in the charset, with an escape for each character that the charset lacks."""
        return text.encode(self._charset.codec, _ESCAPE_JSON)

    def requote(self, quoted: str) -> str:
        """Return a result of `url_encode` in the charset, if the body is a form."""
        if not self._charset.is_form:
            return quoted
        return quote_bytes(self.encode(unquote_plus(quoted)))


def _find_label_problem(content_type: str) -> str | None:
    """Return what is wrong with the charset that a content type names, as the predicate of a sentence, or None."""
    labels = _find_labels(content_type)
    encodings: set[str] = set()
    for label in labels:
        codec = _find_codec(label)
        if codec is None:
            return f"names the charset {label!r:.80}, which is unknown. Enter one such as utf-8 or windows-1251."
        if _is_form(content_type) and not _contains_ascii(codec):
            return f"names the charset {label}, which a form cannot have. Enter one that contains ASCII, such as utf-8."
        encodings.add(codec)
    if len(encodings) > 1:
        return f"names the charsets {' and '.join(labels)}. Enter one of them."
    return None


def _is_form(content_type: str) -> bool:
    return content_type.partition(";")[0].strip().lower() == _FORM


def _find_labels(content_type: str) -> list[str]:
    labels: list[str] = []
    for name, value in _LENIENT_PARAMETER.findall(content_type):
        if name.lower() == "charset":
            label = value.strip()
            if len(label) > 1 and label.startswith('"') and label.endswith('"'):
                label = _QUOTED_PAIR.sub(r"\1", label[1:-1])
            labels.append(label)
    return labels


@lru_cache(256)
def _find_codec(label: str) -> str | None:
    """Return the canonical name of Python's codec for a charset, or None if the charset is unknown."""
    if not _NAME.fullmatch(label):
        return None
    name = _CODECS.get(label.lower(), label)
    try:
        codec = codecs.lookup(name).name
        "".encode(name)  # refuses codecs such as rot13, which do not encode text
    except (LookupError, UnicodeError):
        return None
    if codec.replace("_", "-") in _NO_CHARSETS:
        return None
    return codec


@lru_cache(256)
def _contains_ascii(codec: str) -> bool:
    return _ASCII.encode(codec, "replace") == _ASCII.encode()


def _escape_json(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    return json.dumps(error.object[error.start : error.end])[1:-1], error.end


_ESCAPE_JSON = "ringback.escape_json"
codecs.register_error(_ESCAPE_JSON, _escape_json)
