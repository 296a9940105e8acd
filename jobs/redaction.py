"""Redaction of secrets in stored requests: the values of headers and query parameters with telling names."""

import re
from functools import lru_cache
from urllib.parse import unquote_plus

MASK = "••••••••"
#: Names whose values are secrets: the standard headers, and names with a word such as key, token or secret.
_SECRET_NAME = re.compile(
    r"authori[sz]ation|cookie|token|secret|passw|credential|session|signature|hmac|bearer|api-?_?key|access-?_?key|(^|[-_])(auth|key|pass|sid)($|[-_])",
    re.IGNORECASE,
)
#: Names that match the pattern although their values are not secrets.
_NO_SECRETS = frozenset({"idempotency-key", "webhook-signature"})
#: Headers whose values start with an authorization scheme (RFC 9110, 11.6.2 and 11.7.2).
_WITH_SCHEME = frozenset({"authorization", "proxy-authorization"})
#: Characters of a scheme, at most, so that no secret passes for one.
_MAX_SCHEME_CHARACTERS = 10


def redact(headers: tuple[tuple[str, str], ...]) -> list[tuple[str, str]]:
    """Return the headers with secret values masked. An authorization scheme such as Bearer stays readable."""
    redacted = list(headers)
    for index in _secret_indexes(tuple([name for name, _ in headers])):
        name, value = redacted[index]
        redacted[index] = (name, _mask(name, value))
    return redacted


def redact_url(url: str) -> str:
    """Return the URL with secret query parameters masked; the rest is spelled as before."""
    if "?" not in url:
        return url
    address, _, query = url.partition("?")
    parameters = [_redact_parameter(parameter) for parameter in query.split("&")]
    return f"{address}?{'&'.join(parameters)}"


@lru_cache(1_024)
def is_secret(name: str) -> bool:
    """Tell whether the values of headers and query parameters with this name are secrets."""
    return name.lower() not in _NO_SECRETS and _SECRET_NAME.search(name) is not None


@lru_cache(1_024)
def _secret_indexes(names: tuple[str, ...]) -> list[int]:
    """Return the positions of secret names; cached, because all requests of a webhook have the same names."""
    return [index for index, name in enumerate(names) if is_secret(name)]


def _mask(name: str, value: str) -> str:
    if name.lower() not in _WITH_SCHEME:
        return MASK
    scheme, _, rest = value.partition(" ")
    if rest and scheme.isalpha() and len(scheme) <= _MAX_SCHEME_CHARACTERS:
        return f"{scheme} {MASK}"
    return MASK


def _redact_parameter(parameter: str) -> str:
    name, _, value = parameter.partition("=")
    if value and is_secret(unquote_plus(name)):
        return f"{name}={MASK}"
    return parameter
