"""Redaction of secrets in all that is stored or logged of requests and responses, except their bodies.

Secrets are the values of headers and parameters whose names say so, user names and passwords in URLs, and the paths by
which chat and automation services know their callers. Parameters are in URLs and in the values of headers. One whose
value is an escaped URL with such a secret is redacted too. The patterns take time linear in the text, because endpoints
choose the headers of their responses.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache
from urllib.parse import unquote_plus

from ringback.models.name_patterns import NamePattern

MASK = "••••••••"
#: Maximum length of a name, in characters. The values of longer names are redacted.
MAX_NAME_CHARS = 64
#: Characters of those header values of one request or response that may hold URLs. Further such values are redacted,
#: because endpoints choose how long the headers of their responses are, and searching this many takes up to 3 ms.
MAX_SEARCHED_CHARS = 4_096
#: Characters of a URL whose redaction is cached: the limit of the URL of a webhook.
_MAX_CACHED_URL_CHARS = 2_048
#: Names of secrets, as `_normalize_name` returns them.
_SECRET_NAME = re.compile(
    r"authori[sz]ation|token|secret|passw|passphrase|passcode|credential|session|sessid|signature|hmac|bearer|cookie"
    r"|connection-?string|(?:access|account|api|app|auth|client|consumer|encryption|functions?|license|master|private"
    r"|server|service|shared|signing|subscription|user)-?key"
    r"|-(?:assertion|auth|code-verifier|csrf|jwt|key|otp|pass|pat|psw|pw|pwd|sas|sid|sig|sign|skey|totp|xsrf)-"
    r"|-authentication-(?:info-)?\Z|-saml-?re(?:quest|sponse)-|\A-pin-\Z|\A-x-vault-"
    r"|\A-(?:x-)?(?:(?:access|activation|auth|device|mfa|oauth|security|sms|verification)-)?code-\Z"
)
_SIGNATURE = "webhook-signature"
#: HMAC-SHA256 in base64, as `models.security.signing` makes it.
_SIGNATURE_VALUE = re.compile(r"v1,[A-Za-z0-9+/]{43}=")
#: Names that match the pattern although their values are not secrets.
_NO_SECRETS = frozenset({"access-control-allow-credentials", "idempotency-key", _SIGNATURE})
#: Headers whose values start with an authorization scheme (RFC 9110, 11.6.2 and 11.7.2).
_WITH_SCHEME = frozenset({"authorization", "proxy-authorization"})
#: Characters of a scheme, at most, so that no secret passes for one.
_MAX_SCHEME_CHARACTERS = 10
#: Headers whose values are URLs, which may be relative.
_URL_HEADERS = frozenset({"content-location", "location", "referer"})

_USER_INFO = r"//[^/?#{end}]+@"
#: A parameter of a path, a query or a fragment: what precedes its value, its name, and its value up to a question mark,
#: which may start a query.
_PARAMETER = r"([?&;#]([^=?&;#{end}]+)=)([^?&;#{end}]*)"
#: A value that is a secret, which may contain question marks.
_SECRET_VALUE = r"[^&;#{end}]+"
#: A parameter in the value of a header (RFC 9110, 5.6.6 and 11.2): its name, and its value. A list in parentheses or an
#: asterisk is no secret, but part of a policy such as `publickey-credentials-get=(self)`.
_HEADER_PARAMETER = re.compile(
    rf"""(?<![^\s,;"])([\w.\[\]-]{{1,{MAX_NAME_CHARS}}})=(?:"(?:[^"\\]|\\.)*"?|[^\s,;"(*='][^\s,;"]*)"""
)
#: What a value with such a parameter contains: an equals sign, but none that ends a text in base64.
_EQUALS_SIGN = re.compile(r"=[^\s(*=']")
#: The token of a Telegram bot, one segment of a path.
_BOT_TOKEN = r"(/bot)(?:(?<=telegram\.org/bot)|(?<=telegram\.org/file/bot)|(?=\d+(?::|%3A)))[^/?#{end}]+"
#: The start of a path whose rest is a secret, by service. Most are recognised on other hosts too, such as proxies.
_SECRET_PATHS = (
    r"hooks\.slack(?:-gov)?\.com[^/]{{0,6}}/(?:services|workflows|triggers)/",
    r"/(?:services|workflows|triggers)/(?=[ET][0-9A-Z]{{6,20}}/)",  # Slack
    r"discord(?:app)?\.com[^/]{{0,6}}/api/(?:v\d\d?/)?webhooks/[^/{end}]{{1,64}}/",
    r"/api/(?:v\d\d?/)?webhooks/\d{{6,20}}/(?=[\w-]{{20}})",  # Discord
    r"/webhookb2/",  # Microsoft Teams
    r"\.office(?:365)?\.com[^/]{{0,6}}/webhook/",
    r"/hooks/(?:catch|standard)/",  # Zapier
    r"hook\.(?:[a-z0-9-]{{1,20}}\.){{0,2}}(?:make|integromat|celonis)\.com[^/]{{0,6}}/",
    r"/with/key/",  # IFTTT
    r"/hooks/(?=\w{{17,64}}(?:/|\b))",  # Mattermost and Rocket.Chat
    r"/integration/(?=[0-9a-f]{{32}})",  # PagerDuty
    r"/open-apis/bot/v\d/hook/",  # Lark
    r"/webhook/(?=[0-9a-f]{{8}}-[0-9a-f]{{4}}-)",  # n8n
)
_SECRET_PATH = f"({'|'.join(_SECRET_PATHS)})[^?#{{end}}]+"


#: Two slashes in one line. One slash, as in media types, makes no URL with a secret in it.
_TWO_SLASHES = re.compile(r"/[^\n]*/")
#: An escaped letter, digit, dash or dot. A URL means the same without these escapes (RFC 3986, 2.3).
_ESCAPED_LETTER = re.compile(r"%(2[DEde]|3[0-9]|[46][1-9A-Fa-f]|[57][0-9Aa])")
#: An escape that can hide a secret: one of these, or of # % & / ; or ?, or of a colon in front of a slash.
_TELLING_ESCAPE = re.compile(r"%(?:2[356D-Fd-f]|3[0-9BFbf]|3[Aa]/|[46][1-9A-Fa-f]|[57][0-9Aa])")
#: How often a value is unescaped. A URL in a parameter of a URL in a parameter is escaped twice.
_MAX_UNESCAPES = 2


class _Patterns:
    """The patterns for a URL. `end` holds the characters that end a URL, of those that it cannot contain anyway."""

    def __init__(self, end: str) -> None:
        self.parameter = re.compile(_PARAMETER.format(end=end))
        self.user_info = re.compile(_USER_INFO.format(end=end))
        self.secret_value = re.compile(_SECRET_VALUE.format(end=end))
        #: Other patterns, and what replaces their matches.
        self.masks = (
            (re.compile(_BOT_TOKEN.format(end=end), re.IGNORECASE), rf"\1{MASK}"),
            (re.compile(_SECRET_PATH.format(end=end), re.IGNORECASE), rf"\1{MASK}"),
        )


_WHOLE_URL = _Patterns(end="")
_URL_IN_TEXT = _Patterns(end=r"\s\"'\\<>")


class Redaction:
    """The rules of redaction. `patterns` are the operator's regular expressions of further secret names."""

    def __init__(self, patterns: Iterable[str] = ()) -> None:
        self._patterns = tuple(map(NamePattern, patterns))
        self._is_secret = lru_cache(1_024)(self._match_name)
        self._redact_sent_url = lru_cache(1_024)(self._redact_whole_url)
        self._has_telling_name = lru_cache(256)(self._find_telling_name)
        self._names_secret = lru_cache(64)(self._find_secret_parameter)

    def is_secret(self, name: str) -> bool:
        """Return whether the values of headers and query parameters with this name are secrets."""
        return len(name) > MAX_NAME_CHARS or self._is_secret(name)

    def redact_headers(self, headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
        """Return the headers with secret values redacted. An authorization scheme such as Bearer stays readable."""
        headers = list(headers)
        if not self._has_telling_name(tuple([name for name, _ in headers])):
            values = "\n".join([value for name, value in headers if name != _SIGNATURE or not _is_signature(value)])
            # True of most headers, and quick to check.
            has_parameter = "=" in values and _EQUALS_SIGN.search(values) is not None
            if not _may_hold_secret(values) and not (has_parameter and self._has_secret_parameter(headers)):
                return headers
        redacted = []
        searched_chars = 0
        for header in headers:
            name, value = header
            if self.is_secret(name):
                redacted.append((name, _mask(name, value)))
            elif _may_hold_secret(value) or name.lower() in _URL_HEADERS or self._has_secret_parameter([header]):
                searched_chars += len(value)
                if searched_chars <= MAX_SEARCHED_CHARS:
                    redacted.append((name, self._redact_value(name, value)))
                else:
                    redacted.append((name, MASK))
            else:
                redacted.append(header)
        return redacted

    def redact_url(self, url: str) -> str:
        """Return the URL with its secrets redacted. Letters elsewhere may lose their escapes."""
        if len(url) <= _MAX_CACHED_URL_CHARS:
            return self._redact_sent_url(url)
        return self._redact_whole_url(url)

    def redact_text(self, text: str) -> str:
        """Return the text with the secrets in its URLs and paths redacted."""
        if "/" in text or "?" in text or "#" in text:
            return self._redact(text, _URL_IN_TEXT)
        return text

    def _redact_whole_url(self, url: str) -> str:
        return self._redact(url, _WHOLE_URL)

    def _redact_value(self, name: str, value: str) -> str:
        if name.lower() in _URL_HEADERS:
            return self._redact(value, _WHOLE_URL)
        return _HEADER_PARAMETER.sub(self._redact_header_parameter, self._redact(value, _URL_IN_TEXT))

    def _redact_header_parameter(self, parameter: re.Match[str]) -> str:
        if self.is_secret(parameter[1]):
            return f"{parameter[1]}={MASK}"
        return parameter[0]

    def _redact(self, text: str, patterns: _Patterns) -> str:
        text = self._redact_plain(text, patterns)
        if "%" in text and _TELLING_ESCAPE.search(text):
            return self._redact_escaped(text, patterns)
        return text

    def _redact_plain(self, text: str, patterns: _Patterns) -> str:
        if "@" in text:
            text = patterns.user_info.sub(f"//{MASK}@", text)
        for pattern, mask in patterns.masks:
            if pattern.search(text):  # without a match, a substitution takes twice as long
                text = pattern.sub(mask, text)
        if "=" in text:
            return self._redact_parameters(text, patterns)
        return text

    def _redact_parameters(self, text: str, patterns: _Patterns) -> str:
        redacted = ""
        end = 0
        for parameter in patterns.parameter.finditer(text):
            # A name within a secret is part of it.
            if parameter.start() >= end and self.is_secret(unquote_plus(parameter[2])):
                secret = patterns.secret_value.match(text, parameter.end(1))
                if secret:
                    redacted += text[end : secret.start()] + MASK
                    end = secret.end()
        return redacted + text[end:]

    def _redact_escaped(self, text: str, patterns: _Patterns) -> str:
        """Return the text with those secrets redacted that escapes hide."""
        unescaped = _ESCAPED_LETTER.sub(_unescape, text)
        if unescaped != text:
            redacted = self._redact_plain(unescaped, patterns)
            if redacted != unescaped:
                text = redacted
        return patterns.parameter.sub(self._redact_escaped_url, text)

    def _redact_escaped_url(self, parameter: re.Match[str]) -> str:
        start, _, value = parameter.groups()
        for _ in range(_MAX_UNESCAPES):
            if "%" not in value or not _TELLING_ESCAPE.search(value):
                break
            value = unquote_plus(value)
            if self._redact_plain(value, _WHOLE_URL) != value:
                return f"{start}{MASK}"
        return parameter[0]

    def _find_telling_name(self, names: tuple[str, ...]) -> bool:
        """Return whether the value of one of these headers is a secret or a URL."""
        return any(self.is_secret(name) or name.lower() in _URL_HEADERS for name in names)

    def _has_secret_parameter(self, headers: Sequence[tuple[str, str]]) -> bool:
        """Return whether one of these values has a parameter whose name is that of a secret."""
        values = [value for _, value in headers if "=" in value and _EQUALS_SIGN.search(value)]
        return bool(values) and self._names_secret(tuple(values))

    def _find_secret_parameter(self, values: tuple[str, ...]) -> bool:
        parameters = (parameter for value in values for parameter in _HEADER_PARAMETER.finditer(value))
        return any(self.is_secret(parameter[1]) for parameter in parameters)

    def _match_name(self, name: str) -> bool:
        if name.lower() in _NO_SECRETS:
            return False
        if _SECRET_NAME.search(_normalize_name(name)):
            return True
        return any(pattern.matches(name) for pattern in self._patterns)


#: The rules without patterns of an operator.
DEFAULT = Redaction()


def _is_signature(value: str) -> bool:
    """Return whether a value is a signature of ours, whose base64 may contain slashes but makes no URL."""
    return _SIGNATURE_VALUE.fullmatch(value) is not None


def _may_hold_secret(values: str) -> bool:
    """Return whether one of these header values, one a line, may be a URL with a secret in it, absolute or relative."""
    return "?" in values or "#" in values or _TWO_SLASHES.search(values) is not None


def _unescape(escape: re.Match[str]) -> str:
    return chr(int(escape[1], 16))


def _normalize_name(name: str) -> str:
    """Return the words of a name, such as apiKey or X-API-Key, in lower case with dashes around each.

    Compatible characters, such as full-width letters, count as those of ASCII.
    """
    if not name.isascii():
        name = unicodedata.normalize("NFKC", name)
    separated = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name)
    return re.sub(r"[^a-z0-9]+", "-", f"-{separated.lower()}-")


def _mask(name: str, value: str) -> str:
    if name.lower() not in _WITH_SCHEME:
        return MASK
    scheme, _, rest = value.partition(" ")
    if rest and scheme.isalpha() and len(scheme) <= _MAX_SCHEME_CHARACTERS:
        return f"{scheme} {MASK}"
    return MASK
