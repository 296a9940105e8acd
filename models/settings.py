"""The settings: one frozen object, read from the environment once, with every value checked.

Each setting is an environment variable `RINGBACK_…`. `make settings` writes the table in docs/settings.md from these
descriptions.
"""

import importlib
import os
import re
from importlib.util import find_spec
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge, Le
from pydantic import BeforeValidator, Field, InstanceOf, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from yarl import URL

from ringback.models.environment import describe_misspellings, unknown_variables, variable_name
from ringback.models.errors import ConfigurationError
from ringback.models.name_patterns import NamePattern
from ringback.models.postgres_url import parse_postgres_url

#: The longest timeout of a webhook.
MAX_TIMEOUT_SECONDS = 30.0
#: Attempts of one webhook in flight at the same time.
DEFAULT_MAX_CONCURRENCY, MAX_CONCURRENCY = 50, 1_000
Network = IPv4Network | IPv6Network
_MAX_PORT = 65_535
_POSTGRES_SCHEMES = ("postgres", "postgresql")
#: The address to connect to on this machine when the server listens on all addresses.
_LOOPBACK = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}
#: An admin token must fit into an Authorization header.
_ADMIN_TOKEN = re.compile(r"[\x21-\x7e]{16,512}")
#: The value of RINGBACK_PORT that Kubernetes sets for a service named ringback, such as tcp://10.0.0.1:8000.
_KUBERNETES_PORT = re.compile(r"(tcp|udp|sctp)://.*")
#: A port, or the first and the last port of a range.
_PORTS = re.compile(r"(?P<first>[0-9]{1,5})(?:\s*-\s*(?P<last>[0-9]{1,5}))?")
#: User name and password of a URL, which stand before its host.
_CREDENTIALS = re.compile(r"[^/?#]*://[^/?#]*@")


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


class Settings(BaseSettings):
    """The settings of one process. Create them with `load_settings()`, which reports mistakes in one readable line."""

    model_config = SettingsConfigDict(env_prefix="RINGBACK_", frozen=True, extra="ignore", env_ignore_empty=True)

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on. 0 takes a free port.")
    data_dir: Path = Field(
        Path(".ringback"),
        description="Directory for the SQLite database, the generated keys and the first admin token.",
    )
    database_url: str = Field(
        "",
        description="`postgres://USER:PASSWORD@HOST:PORT/NAME`, with the options of Postgres's URLs, such as "
        "`?sslmode=require` (those that do not apply are ignored with a warning), or `sqlite://PATH`. Empty means "
        "`ringback.db` in the data directory.",
    )
    database_pool_size: int = Field(
        10, ge=2, le=1_000, description="Maximum number of Postgres connections per process."
    )
    start_timeout_seconds: float = Field(
        60.0,
        ge=0,
        allow_inf_nan=False,
        description="Seconds to wait at startup for a database that cannot be reached.",
    )
    broker_url: str = Field(
        "",
        description="Dramatiq broker that notifies workers of due events: `redis://…`, or `amqp://…` for RabbitMQ. "
        "Empty means an in-process broker.",
    )
    redis_url: str = Field(
        "",
        description="Redis that notifies API processes of new log entries. Empty means the broker's Redis, if it is "
        "one. Without Redis, API processes see new entries within a second.",
    )
    secret_key: SecretStr | None = Field(
        None,
        description="Key that encrypts signing secrets in the database. Empty means a key that is generated once and "
        "stored in the data directory. Do not change it: requests of existing webhooks could no longer be signed.",
    )
    admin_token: SecretStr | None = Field(
        None,
        description="First admin token, 16 to 512 ASCII characters without spaces. Empty means a token that is "
        "generated, printed in the GraphiQL link and stored in the data directory.",
    )
    public_url: str = Field(
        "", description="URL by which clients reach this server, the base of inbox URLs. Empty means host and port."
    )
    dangerous_allow_networks: Annotated[tuple[Annotated[Network, BeforeValidator(_parse_network)], ...], NoDecode] = (
        Field(
            (),
            description="Networks that deliveries may reach although they are not public: CIDRs, separated by commas. "
            "Dangerous: anyone who can edit webhooks can then reach these networks.",
        )
    )
    allow_ports: Annotated[tuple[Annotated[InstanceOf[range], BeforeValidator(_parse_ports)], ...], NoDecode] = Field(
        "80,443,1024-65535",
        validate_default=True,
        description="Ports that deliveries may reach: ports and ranges, separated by commas. Ringback's own inboxes "
        "and the networks in `RINGBACK_DANGEROUS_ALLOW_NETWORKS` can be reached at any port.",
    )
    models: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Python modules with your own tracked models, separated by commas."
    )
    lease_seconds: float = Field(
        15.0,
        ge=3,
        allow_inf_nan=False,
        description="Seconds without a renewal after which a worker counts as dead and its attempts as ABANDONED. "
        "Workers renew their lease every third of this time. Not used on SQLite, which has only one worker.",
    )
    worker_concurrency: int = Field(
        1_000, ge=1, le=1_000, description="Maximum number of attempts in flight per worker process."
    )
    max_concurrency_per_webhook: int = Field(
        DEFAULT_MAX_CONCURRENCY,
        ge=1,
        le=MAX_CONCURRENCY,
        description="Maximum number of attempts in flight per webhook, in all workers together. A webhook's "
        "`maxConcurrency` overrides it.",
    )
    api_max_body_bytes: int = Field(
        1_048_576,
        ge=1_024,
        le=67_108_864,
        description="Maximum size of a GraphQL request and of a WebSocket frame, in bytes.",
    )
    api_max_tokens: int = Field(5_000, ge=100, description="Maximum number of tokens in a GraphQL document.")
    api_max_depth: int = Field(
        20, ge=15, le=100, description="Maximum depth of fields in an operation. Introspection needs 15."
    )
    api_max_aliases: int = Field(
        100, ge=0, description="Maximum number of aliases in an operation, fragments expanded."
    )
    api_max_root_fields: int = Field(50, ge=1, description="Maximum number of root fields in an operation.")
    api_max_cost: int = Field(
        10_000,
        ge=100,
        description="Maximum number of objects that an operation may read. A connection multiplies the objects below "
        "it by `first`, a plain list by 5.",
    )
    api_max_subscriptions_per_connection: int = Field(
        100, ge=1, description="Maximum number of operations that run at the same time over one WebSocket."
    )
    api_max_subscriptions_per_token: int = Field(
        4_000, ge=1, description="Maximum number of subscriptions that run at the same time per token and process."
    )
    api_max_response_bytes: int = Field(
        16_777_216,
        ge=1_048_576,
        description="Maximum number of bytes that an operation may read from the database, and of long texts and JSON "
        "values in its response. Each alias counts.",
    )
    api_introspection: bool = Field(
        True,
        description="Whether API clients may read the schema by introspection. With `false`, errors do not suggest "
        "names of the schema either, and GraphiQL has no documentation and no completion.",
    )
    api_max_subscription_tokens: int = Field(
        60_000,
        ge=1_000,
        description="Maximum number of GraphQL tokens in the documents of all subscriptions that run per API token and "
        "process. Equal documents count once.",
    )
    http_max_url_bytes: int = Field(
        65_536, ge=1_024, le=1_048_576, description="Maximum length of the URL of a request, in bytes."
    )
    http_max_header_bytes: int = Field(
        65_536,
        ge=4_096,
        le=1_048_576,
        description="Maximum size of the headers of a request, in bytes. An inbox needs it for the headers of a "
        "delivery.",
    )
    http_max_headers: int = Field(100, ge=64, le=1_000, description="Maximum number of headers of a request.")
    http_header_seconds: float = Field(
        10.0, ge=0.1, allow_inf_nan=False, description="Seconds in which the headers of a request must arrive."
    )
    http_body_seconds: float = Field(
        60.0,
        ge=0.1,
        allow_inf_nan=False,
        description="Seconds in which the body of a request or a WebSocket message must arrive.",
    )
    http_read_seconds: float = Field(
        60.0,
        ge=0.1,
        allow_inf_nan=False,
        description="Seconds without progress after which a client that does not read a response is disconnected.",
    )
    http_keep_alive_seconds: int = Field(
        5, ge=1, description="Seconds after which a connection without a request is closed."
    )
    http_max_connections: int = Field(
        10_000,
        ge=10,
        description="Maximum number of connections per process. Three quarters of the open files that the system "
        "allows, if that is less.",
    )
    http_max_connections_per_address: int = Field(
        1_000,
        ge=1,
        description="Maximum number of connections per client address (IPv6: per /64 network). For clients behind a "
        "trusted proxy, of requests in progress. WebSocket connections and streams with a valid token do not count.",
    )
    http_max_buffered_bytes: int = Field(
        33_554_432,
        ge=1_048_576,
        description="Maximum number of bytes of incomplete and running requests and of unread responses in a process. "
        "At least twice `RINGBACK_API_MAX_BODY_BYTES`.",
    )
    trusted_proxies: Annotated[tuple[Annotated[Network, BeforeValidator(_parse_network)], ...], NoDecode] = Field(
        (),
        description="Reverse proxies whose `X-Forwarded-For` and `X-Forwarded-Proto` count: addresses and CIDRs, "
        "separated by commas. Without it, all clients of a proxy count as one.",
    )
    inbox_max_requests: int = Field(
        10_000, ge=1, description="Maximum number of requests that an inbox stores. The oldest are removed."
    )
    inbox_max_bytes: int = Field(
        67_108_864,
        ge=65_536,
        description="Maximum number of bytes that an inbox stores: URLs, headers and bodies, and 512 for each request. "
        "The oldest requests are removed.",
    )
    inbox_max_total_bytes: int = Field(
        536_870_912,
        ge=65_536,
        description="Maximum number of bytes that all inboxes together store. The oldest requests of the inbox that "
        "stores most are removed.",
    )
    inbox_max_requests_per_second: int = Field(
        500,
        ge=0,
        description="Maximum number of requests per second that an inbox accepts in each process. More get 429. "
        "0 means no limit.",
    )
    redact_patterns: Annotated[tuple[Annotated[str, BeforeValidator(_check_name_pattern)], ...], NoDecode] = Field(
        (),
        description="Regular expressions of names of headers and query parameters whose values are secrets, besides "
        "the usual ones, separated by commas or by lines: `^x-corp-,ssn$`. They match anywhere in a name, in upper or "
        "lower case. In stored requests and responses, in errors and in the log, such values are masked.",
    )
    log_level: str = Field(
        "INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$", description="Least severe level that is logged."
    )

    @field_validator("dangerous_allow_networks", "allow_ports", "models", "trusted_proxies", mode="before")
    @classmethod
    def _split_list(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        parts = (part.strip() for part in value.split(","))
        return tuple(filter(None, parts))

    @field_validator("redact_patterns", mode="before")
    @classmethod
    def _split_patterns(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        separator = ","
        if "\n" in value:
            separator = "\n"
        parts = (part.strip() for part in value.split(separator))
        return tuple(filter(None, parts))

    @field_validator("port", mode="before")
    @classmethod
    def _check_port(cls, value: Any) -> Any:
        if isinstance(value, str) and _KUBERNETES_PORT.fullmatch(value):
            raise ValueError(
                f"RINGBACK_PORT is {value}. Kubernetes sets it to this in every pod if a service is named ringback. "
                "Rename the service, or set enableServiceLinks: false in the pod's spec."
            )
        return value

    @field_validator("public_url")
    @classmethod
    def _check_public_url(cls, value: str) -> str:
        if _CREDENTIALS.match(value):
            # The message does not quote the value, which contains a password.
            raise ValueError("RINGBACK_PUBLIC_URL contains a user name or a password. Remove them.")
        if value and not _is_base_url(value):
            raise ValueError(
                f"RINGBACK_PUBLIC_URL is {value}. "
                "Set it to an http or https URL without query and fragment, such as https://hooks.example."
            )
        return value.rstrip("/")

    @field_validator("database_url")
    @classmethod
    def _check_database_url(cls, value: str) -> str:
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
                f"RINGBACK_DATABASE_URL is {value}. "
                "Set it to sqlite:// followed by the path of a file, without options."
            )
        return value

    @field_validator("broker_url", "redis_url")
    @classmethod
    def _check_server_url(cls, value: str, info: ValidationInfo) -> str:
        assert info.field_name is not None, "pydantic names the field of a field validator"
        schemes = ["redis", "rediss"]
        if info.field_name == "broker_url":
            schemes += ["amqp", "amqps"]
        scheme, separator, rest = value.partition("://")
        if value and (scheme not in schemes or not separator or not rest):
            # The message does not quote the value, which may contain a password.
            starts = ", ".join(f"{name}://" for name in schemes)
            raise ValueError(
                f"{variable_name(info.field_name)} is not a URL of a supported server. "
                f"Set it to a host after one of {starts}."
            )
        return value

    @field_validator("admin_token")
    @classmethod
    def _check_admin_token(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not _ADMIN_TOKEN.fullmatch(value.get_secret_value()):
            length = len(value.get_secret_value())
            raise ValueError(
                f"RINGBACK_ADMIN_TOKEN, of {length} characters, is not a valid token. "
                "Set it to 16 to 512 ASCII characters without spaces."
            )
        return value

    @property
    def database_path(self) -> Path:
        """Path of the SQLite database."""
        if self.database_url.startswith("sqlite://"):
            return Path(self.database_url.removeprefix("sqlite://"))
        return self.data_dir / "ringback.db"

    @property
    def is_embedded(self) -> bool:
        """Whether the database is SQLite, which allows one worker process."""
        return not self.database_url or self.database_url.startswith("sqlite:")

    @property
    def notifications_url(self) -> str:
        """URL of the Redis that carries notifications, or "" if there is none."""
        if self.redis_url:
            return self.redis_url
        return self.broker_url if self.broker_url.startswith("redis") else ""

    def address(self, port: int | None = None) -> str:
        """Return the URL of this server: the public URL, or else host and port. `port` replaces a port setting of 0."""
        if self.public_url:
            return self.public_url
        host = _LOOPBACK.get(self.host, self.host)
        if ":" in host:
            host = f"[{host}]"
        return f"http://{host}:{port or self.port}"

    def load_models(self) -> None:
        """Import the modules of RINGBACK_MODELS. Raises ConfigurationError if a module cannot be imported."""
        for name in self.models:
            try:
                importlib.import_module(name)
            except ImportError as error:
                raise ConfigurationError(
                    f"RINGBACK_MODELS names the module {name}, which cannot be imported ({error}). "
                    "Install it, or add its directory to PYTHONPATH."
                ) from error


def load_settings(**overrides: Any) -> Settings:
    """Read the settings. `overrides` that are not None, such as command line options, replace the environment's values.

    Raises ConfigurationError with one line that names each invalid or misspelled variable and its problem.
    """
    given = {name: value for name, value in overrides.items() if value is not None}
    problems = list(describe_misspellings(find_unknown_variables(), Settings.model_fields))
    try:
        loaded = Settings(**given)
    except ValidationError as error:
        problems += [_describe(details) for details in error.errors()]
        raise ConfigurationError(" ".join(problems)) from error
    if problems:
        raise ConfigurationError(" ".join(problems))
    return loaded


def find_unknown_variables() -> list[str]:
    """Return the environment variables named RINGBACK_… that are not settings, except those
    of the examples, the tests and Kubernetes.
    """
    return unknown_variables(os.environ, Settings.model_fields)


def _is_base_url(text: str) -> bool:
    try:
        url = URL(text)
    except ValueError:
        return False
    return url.scheme in ("http", "https") and bool(url.host) and not url.query_string and not url.fragment


def _describe(details: ErrorDetails) -> str:
    """Return the message of a validator, or one for a value that pydantic itself refuses."""
    if details["type"] == "value_error":
        return str(details["ctx"]["error"])
    name = str(details["loc"][0])
    allowed = _allowed_values(name)
    advice = f"Set it to {allowed}" if allowed else str(details["msg"])
    return f"{variable_name(name)} is {details['input']}. {advice}."


def _allowed_values(name: str) -> str | None:
    """Return in words which values a number, a switch or the log level may have. None for settings that hold text."""
    if name == "log_level":
        return "DEBUG, INFO, WARNING or ERROR"
    field = Settings.model_fields[name]
    if field.annotation is bool:
        return "true or false"
    limits = {type(limit): limit for limit in field.metadata}
    if Ge not in limits:
        return None
    number = "a whole number" if field.annotation is int else "a number"
    if Le in limits:
        return f"{number} from {limits[Ge].ge} to {limits[Le].le}"
    return f"{number} that is at least {limits[Ge].ge}"
