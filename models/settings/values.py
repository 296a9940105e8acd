"""Types of settings: how a text from the environment becomes a value, and what is wrong with it if it cannot."""

import re
from functools import partial
from importlib.util import find_spec
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated, Any

from annotated_types import Ge, Le
from pydantic import AfterValidator, BeforeValidator, InstanceOf, SecretStr, ValidationInfo
from pydantic_settings import NoDecode
from yarl import URL

from ringback.models.database.postgres_url import parse_postgres_url
from ringback.models.name_patterns import NamePattern
from ringback.models.settings.environment import variable_name

Network = IPv4Network | IPv6Network
_MAX_PORT = 65_535
_POSTGRES_SCHEMES = ("postgres", "postgresql")
_REDIS_SCHEMES = ("redis", "rediss")
_BROKER_SCHEMES = (*_REDIS_SCHEMES, "amqp", "amqps")
#: An admin token must fit into an Authorization header.
_ADMIN_TOKEN = re.compile(r"[\x21-\x7e]{16,512}")
#: The value of RINGBACK_PORT that Kubernetes sets for a service named ringback, such as tcp://10.0.0.1:8000.
_KUBERNETES_PORT = re.compile(r"(tcp|udp|sctp)://.*")
#: A port, or the first and the last port of a range.
_PORTS = re.compile(r"(?P<first>[0-9]{1,5})(?:\s*-\s*(?P<last>[0-9]{1,5}))?")
#: User name and password of a URL, which stand before its host.
_CREDENTIALS = re.compile(r"[^/?#]*://[^/?#]*@")


def _split_list(value: Any) -> Any:
    return _split(value, ",")


def _split_patterns(value: Any) -> Any:
    """Split at lines if there are several, because a pattern may contain a comma."""
    separator = ","
    if isinstance(value, str) and "\n" in value:
        separator = "\n"
    return _split(value, separator)


def _split(value: Any, separator: str) -> Any:
    if not isinstance(value, str):
        return value
    parts = (part.strip() for part in value.split(separator))
    return tuple(filter(None, parts))


def _parse_network(text: str | Network, info: ValidationInfo) -> Network:
    try:
        return ip_network(text)
    except ValueError as error:
        assert info.field_name is not None, "pydantic names the field of a field validator"
        raise ValueError(
            f"{variable_name(info.field_name)} contains {text}, which is not a network ({error}). "
            "Write networks as in 10.0.0.0/8, separated by commas."
        ) from error


def _parse_ports(text: str | range) -> range:
    """Return the ports that a text such as 443 or 8000-8999 names."""
    if isinstance(text, range):
        return text
    ports = _PORTS.fullmatch(text)
    if ports is not None:
        first = int(ports["first"])
        last = int(ports["last"] or first)
        if 1 <= first <= last <= _MAX_PORT:
            return range(first, last + 1)
    raise ValueError(
        f"RINGBACK_ALLOW_PORTS contains {text}, which is neither a port nor a range of ports from 1 to {_MAX_PORT}. "
        "Write ports as in 443,8000-8999, separated by commas."
    )


def _check_name_pattern(text: str) -> str:
    try:
        NamePattern(text)
    except ValueError as error:
        raise ValueError(
            f"RINGBACK_REDACT_PATTERNS contains {text}, which is not a regular expression ({error}). "
            "Write regular expressions as in x-corp-.*, separated by commas or, if one contains a comma, by lines."
        ) from error
    return text


def _check_port(value: Any) -> Any:
    if isinstance(value, str) and _KUBERNETES_PORT.fullmatch(value):
        raise ValueError(
            f"RINGBACK_PORT is {value}. Kubernetes sets it to this in every pod if a service is named ringback. "
            "Rename the service, or set enableServiceLinks: false in the pod's spec."
        )
    return value


def _check_public_url(value: str) -> str:
    if _CREDENTIALS.match(value):
        # The message does not quote the value, which contains a password.
        raise ValueError("RINGBACK_PUBLIC_URL contains a user name or a password. Remove them.")
    if value and not _is_base_url(value):
        raise ValueError(
            f"RINGBACK_PUBLIC_URL is {value}. "
            "Set it to an http or https URL without query and fragment, such as https://hooks.example."
        )
    return value.rstrip("/")


def _is_base_url(text: str) -> bool:
    try:
        url = URL(text)
    except ValueError:
        return False
    return url.scheme in ("http", "https") and bool(url.host) and not url.query_string and not url.fragment


def _check_database_url(value: str) -> str:
    scheme, separator, rest = value.partition("://")
    if not value:
        return value
    if scheme in _POSTGRES_SCHEMES and separator:
        if find_spec("asyncpg") is None:
            raise ValueError(
                "RINGBACK_DATABASE_URL names Postgres, but its driver is missing. Run: pip install '.[postgres]'"
            )
        try:
            url = parse_postgres_url(value)
        except ValueError as error:
            raise ValueError(f"RINGBACK_DATABASE_URL cannot be read: {error}") from error
        if not url.database and not url.has_service:
            raise ValueError(
                "RINGBACK_DATABASE_URL lacks the name of the database. "
                "Set it to postgres://USER:PASSWORD@HOST:PORT/NAME."
            )
    elif scheme != "sqlite" or not separator:
        # The messages do not quote the value, which may contain a password.
        raise ValueError(
            "RINGBACK_DATABASE_URL starts with neither postgres:// nor sqlite://. "
            "Set it to postgres://USER:PASSWORD@HOST:PORT/NAME or sqlite://PATH."
        )
    elif rest in ("", ":memory:") or "?" in rest:
        raise ValueError(
            f"RINGBACK_DATABASE_URL is {value}. Set it to sqlite:// followed by the path of a file, without options."
        )
    return value


def _check_server_url(value: str, *, variable: str, schemes: tuple[str, ...]) -> str:
    scheme, separator, rest = value.partition("://")
    if value and (scheme not in schemes or not separator or not rest):
        # The message does not quote the value, which may contain a password.
        starts = ", ".join(f"{name}://" for name in schemes)
        raise ValueError(f"{variable} is not a URL of a supported server. Set it to a host after one of {starts}.")
    return value


def _check_admin_token(value: SecretStr | None) -> SecretStr | None:
    if value is not None and not _ADMIN_TOKEN.fullmatch(value.get_secret_value()):
        length = len(value.get_secret_value())
        raise ValueError(
            f"RINGBACK_ADMIN_TOKEN, of {length} characters, is not a valid token. "
            "Set it to 16 to 512 ASCII characters without spaces."
        )
    return value


Port = Annotated[int, Ge(0), Le(_MAX_PORT), BeforeValidator(_check_port)]
PublicUrl = Annotated[str, AfterValidator(_check_public_url)]
DatabaseUrl = Annotated[str, AfterValidator(_check_database_url)]
BrokerUrl = Annotated[
    str, AfterValidator(partial(_check_server_url, variable="RINGBACK_BROKER_URL", schemes=_BROKER_SCHEMES))
]
RedisUrl = Annotated[
    str, AfterValidator(partial(_check_server_url, variable="RINGBACK_REDIS_URL", schemes=_REDIS_SCHEMES))
]
AdminToken = Annotated[SecretStr | None, AfterValidator(_check_admin_token)]
ModuleNames = Annotated[tuple[str, ...], BeforeValidator(_split_list), NoDecode]
Networks = Annotated[
    tuple[Annotated[Network, BeforeValidator(_parse_network)], ...], BeforeValidator(_split_list), NoDecode
]
PortRanges = Annotated[
    tuple[Annotated[InstanceOf[range], BeforeValidator(_parse_ports)], ...], BeforeValidator(_split_list), NoDecode
]
NamePatterns = Annotated[
    tuple[Annotated[str, BeforeValidator(_check_name_pattern)], ...], BeforeValidator(_split_patterns), NoDecode
]
