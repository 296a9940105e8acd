"""What of a sent request is not kept: the values of headers and query parameters that carry secrets."""

import re
from functools import lru_cache
from urllib.parse import unquote_plus

MASK = "••••••••"
#: Header names whose values are secrets: the standard ones, and whatever calls itself a key, token or secret.
_SECRET_NAME = re.compile(
    r"authori[sz]ation|cookie|token|secret|passw|credential|session|signature|hmac|bearer|api-?_?key|access-?_?key|(^|[-_])(auth|key|pass|sid)($|[-_])",
    re.IGNORECASE,
)
#: Names that the pattern finds although their values are none.
_NO_SECRETS = frozenset({"idempotency-key", "webhook-signature"})
#: Names whose values begin with an authorization scheme (RFC 9110, 11.6.2 and 11.7.2).
_WITH_SCHEME = frozenset({"authorization", "proxy-authorization"})


def redact(headers: tuple[tuple[str, str], ...]) -> list[tuple[str, str]]:
    """The headers with secret values masked; an authorization scheme such as Bearer stays readable."""
    kept = list(headers)
    for at in _secrets(tuple([name for name, _ in headers])):
        name, value = kept[at]
        kept[at] = (name, _mask(name, value))
    return kept


@lru_cache(1_024)
def _secrets(names: tuple[str, ...]) -> list[int]:
    """Which of the names are those of secrets; the requests of a webhook have the same, over and over."""
    return [at for at, name in enumerate(names) if is_secret(name)]


@lru_cache(1_024)
def is_secret(name: str) -> bool:
    """Whether the values of headers of this name are secrets."""
    return name.lower() not in _NO_SECRETS and _SECRET_NAME.search(name) is not None


def _mask(name: str, value: str) -> str:
    scheme, _, rest = value.partition(" ")
    readable = name.lower() in _WITH_SCHEME and rest and scheme.isalpha() and len(scheme) <= 10
    return f"{scheme} {MASK}" if readable else MASK


def redact_url(url: str) -> str:
    """The URL with the values of query parameters that are secrets masked, as it was spelled otherwise."""
    if "?" not in url:
        return url
    address, mark, query = url.partition("?")
    return address + mark + "&".join(_masked_parameter(part) for part in query.split("&"))


def _masked_parameter(part: str) -> str:
    name, equals, value = part.partition("=")
    return f"{name}={MASK}" if value and is_secret(unquote_plus(name)) else name + equals + value
