"""What of a sent request is not kept: the values of headers that carry secrets."""

import re

MASK = "••••••••"
#: Header names whose values are secrets: the standard ones, and what is commonly called a key, token or secret.
_SECRET_NAME = re.compile(
    r"^(authorization|proxy-authorization|cookie)$|(^|[-_])(api-?key|key|token|secret|password|passwd|auth)s?($|[-_])",
    re.IGNORECASE,
)


def masked(headers: tuple[tuple[str, str], ...]) -> list[list[str]]:
    """The headers with secret values masked; an authorization scheme such as Bearer stays readable."""
    return [[name, _mask(value) if _SECRET_NAME.search(name) else value] for name, value in headers]


def _mask(value: str) -> str:
    scheme, _, rest = value.partition(" ")
    return f"{scheme} {MASK}" if rest and scheme.isalpha() and len(scheme) <= 10 else MASK
