"""What of a sent request is not kept: the values of headers that carry secrets."""

import re

MASK = "••••••••"
#: Header names whose values are secrets: the standard ones, and whatever calls itself a key, token or secret.
_SECRET_NAME = re.compile(
    r"authori[sz]ation|cookie|token|secret|passw|credential|session|api-?_?key|access-?_?key|(^|[-_])(auth|key|pass|sid)($|[-_])",
    re.IGNORECASE,
)
#: Names that the pattern finds although their values are none.
_NO_SECRETS = frozenset({"idempotency-key"})


def masked(headers: tuple[tuple[str, str], ...]) -> list[list[str]]:
    """The headers with secret values masked; an authorization scheme such as Bearer stays readable."""
    return [[name, _mask(value) if _is_secret(name) else value] for name, value in headers]


def _is_secret(name: str) -> bool:
    return name.lower() not in _NO_SECRETS and _SECRET_NAME.search(name) is not None


def _mask(value: str) -> str:
    scheme, _, rest = value.partition(" ")
    return f"{scheme} {MASK}" if rest and scheme.isalpha() and len(scheme) <= 10 else MASK
