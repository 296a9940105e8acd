"""The settings: one frozen object, read from the environment once, with every value checked.

Each setting is an environment variable `RINGBACK_…`. `make settings` writes the table in docs/settings.md from these
descriptions.
"""

import importlib
import re
from importlib.util import find_spec
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from yarl import URL

from ringback.models.errors import ConfigurationError

#: The longest timeout of a webhook.
MAX_TIMEOUT_SECONDS = 30.0
#: Attempts of one webhook in flight at the same time.
DEFAULT_MAX_CONCURRENCY, MAX_CONCURRENCY = 50, 1_000
Network = IPv4Network | IPv6Network
_POSTGRES_SCHEMES = ("postgres", "postgresql")
#: The address to connect to on this machine when the server listens on all addresses.
_LOOPBACK = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}
#: An admin token must fit into an Authorization header.
_ADMIN_TOKEN = re.compile(r"[\x21-\x7e]{16,512}")


def _parse_network(text: str | Network) -> Network:
    try:
        return ip_network(text)
    except ValueError as error:
        raise ValueError(f"{text} is not a network ({error}); write it as in 10.0.0.0/8") from error


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
        description="`postgres://USER:PASSWORD@HOST:PORT/NAME`, with `?sslmode=…` and the other options of Postgres's "
        "URLs, or `sqlite://PATH`. Empty means `ringback.db` in the data directory.",
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
    log_level: str = Field(
        "INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$", description="Least severe level that is logged."
    )

    @field_validator("dangerous_allow_networks", "models", mode="before")
    @classmethod
    def _split_list(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        parts = (part.strip() for part in value.split(","))
        return tuple(filter(None, parts))

    @field_validator("public_url")
    @classmethod
    def _check_public_url(cls, value: str) -> str:
        url = URL(value)
        if url.user or url.password:
            raise ValueError("must not contain credentials")
        if value and (url.scheme not in ("http", "https") or not url.host or url.query_string or url.fragment):
            raise ValueError(f"{value} is not an http(s) URL such as https://hooks.example")
        return value.rstrip("/")

    @field_validator("database_url")
    @classmethod
    def _check_database_url(cls, value: str) -> str:
        scheme, separator, rest = value.partition("://")
        if not value:
            return value
        if scheme in _POSTGRES_SCHEMES and separator:
            if find_spec("asyncpg") is None:
                raise ValueError("Postgres needs a driver that is not installed: pip install 'ringback[postgres]'")
            if not urlsplit(value).path.strip("/"):
                raise ValueError("the name of the database is missing: postgres://USER:PASSWORD@HOST:PORT/NAME")
        elif scheme != "sqlite" or not separator:
            raise ValueError("must start with postgres:// or sqlite://; other databases are not supported")
        elif rest in ("", ":memory:") or "?" in rest:
            raise ValueError("must be sqlite:// followed by the path of a file, without options")
        return value

    @field_validator("broker_url", "redis_url")
    @classmethod
    def _check_server_url(cls, value: str, info: ValidationInfo) -> str:
        schemes = ["redis", "rediss"]
        if info.field_name == "broker_url":
            schemes += ["amqp", "amqps"]
        scheme, separator, rest = value.partition("://")
        if value and (scheme not in schemes or not separator or not rest):
            # The message does not quote the value, which may contain a password.
            starts = ", ".join(f"{name}://" for name in schemes)
            raise ValueError(f"must be a URL that starts with one of {starts}")
        return value

    @field_validator("admin_token")
    @classmethod
    def _check_admin_token(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not _ADMIN_TOKEN.fullmatch(value.get_secret_value()):
            raise ValueError("must be 16 to 512 ASCII characters without spaces")
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
    def wakeups_url(self) -> str:
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
                    f"RINGBACK_MODELS: the module {name} cannot be imported ({error}); "
                    "install it, or add its directory to PYTHONPATH"
                ) from error


def load_settings(**overrides: Any) -> Settings:
    """Read the settings. `overrides` that are not None, such as command line options, replace the environment's values.

    Raises ConfigurationError with one line that names each invalid variable and its problem.
    """
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        return Settings(**given)
    except ValidationError as error:
        raise ConfigurationError("; ".join(_describe(details) for details in error.errors())) from error


def _describe(details: Any) -> str:
    message = details["msg"].removeprefix("Value error, ")
    if not details["loc"]:
        return str(message)
    return f"RINGBACK_{str(details['loc'][0]).upper()}: {message}"
