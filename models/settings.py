"""The one reader of the environment: a frozen object, read once, cross-checked, handed on as narrow values.

Every setting is an environment variable `RINGBACK_…`; the README's table is generated from nothing but these
descriptions, and a test compares the two.
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

#: The longest timeout that a webhook may be given, in seconds (contract: 0.1 to 30).
MAX_TIMEOUT_SECONDS = 30.0
#: Attempts of one webhook under way at the same time: unless told otherwise, and at most.
DEFAULT_MAX_CONCURRENCY, MAX_CONCURRENCY = 50, 1_000
Network = IPv4Network | IPv6Network
#: How the URL of a Postgres database begins.
POSTGRES = ("postgres", "postgresql")
#: Where what listens on every address is reached from this machine.
_REACHED_AT = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}  # nothing is bound here


def _network(text: str | Network) -> Network:
    try:
        return ip_network(text)
    except ValueError as error:
        raise ValueError(f"{text} is not a network ({error}); write it like 10.0.0.0/8") from error


class Settings(BaseSettings):
    """What the operator decides. Build it with `load_settings()`, which turns mistakes into one readable line."""

    model_config = SettingsConfigDict(env_prefix="RINGBACK_", frozen=True, extra="ignore", env_ignore_empty=True)

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    data_dir: Path = Field(
        Path(".ringback"), description="Where the embedded default keeps its database, keys and first admin token."
    )
    database_url: str = Field(
        "",
        description="`postgres://USER:PASSWORD@HOST:PORT/NAME`, with `?sslmode=…` and the other options of Postgres's "
        "URLs, or `sqlite://PATH`; empty means `ringback.db` in the data directory.",
    )
    database_pool_size: int = Field(
        10, ge=2, le=1_000, description="Connections to Postgres that one process opens at most."
    )
    start_timeout_seconds: float = Field(
        60.0,
        ge=0,
        allow_inf_nan=False,
        description="How long a database that is away is waited for at the start, in seconds.",
    )
    broker_url: str = Field(
        "",
        description="The Dramatiq broker that tells workers of due events: `redis://…`, or `amqp://…` for RabbitMQ. "
        "Empty means an in-process broker.",
    )
    redis_url: str = Field(
        "",
        description="The Redis that tells API processes of new log entries. Empty means the broker's, if it is Redis; "
        "without any, they notice within a second.",
    )
    secret_key: SecretStr | None = Field(
        None,
        description="Encrypts signing secrets in the database. Empty means a key made once and kept in the data "
        "directory. Do not change it: webhooks made under another key cannot be signed any more.",
    )
    admin_token: SecretStr | None = Field(
        None,
        description="A fixed first admin token (at least 16 characters). Empty means one is made, printed once and "
        "kept in the data directory.",
    )
    public_url: str = Field(
        "", description="The address by which others reach this server: the base of inbox URLs. Empty means host:port."
    )
    dangerous_allow_networks: Annotated[tuple[Annotated[Network, BeforeValidator(_network)], ...], NoDecode] = Field(
        (),
        description="Networks (CIDRs, separated by commas) that deliveries may reach although they are not public. "
        "Dangerous: whoever may edit webhooks can then reach those networks.",
    )
    models: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Modules with your own tracked models, separated by commas."
    )
    lease_seconds: float = Field(
        15.0,
        ge=3,
        allow_inf_nan=False,
        description="Seconds without a renewal after which a worker counts as dead and its attempts as ABANDONED. "
        "A worker renews its lease every third of this. It has no meaning on SQLite, where the worker is alone.",
    )
    worker_concurrency: int = Field(
        1_000, ge=1, le=1_000, description="Attempts that one worker process has under way at the same time."
    )
    max_concurrency_per_webhook: int = Field(
        DEFAULT_MAX_CONCURRENCY,
        ge=1,
        le=MAX_CONCURRENCY,
        description="Attempts of one webhook under way at the same time, in all workers together; a webhook's "
        "`maxConcurrency` overrides it.",
    )
    api_max_body_bytes: int = Field(
        1_048_576, ge=1_024, le=67_108_864, description="The longest GraphQL request, and the longest WebSocket frame."
    )
    api_max_tokens: int = Field(5_000, ge=100, description="Tokens of one GraphQL document.")
    api_max_depth: int = Field(
        20, ge=15, le=100, description="Levels of fields in one operation; introspection needs 15."
    )
    api_max_aliases: int = Field(100, ge=0, description="Aliases in one operation, fragments spread out.")
    api_max_root_fields: int = Field(50, ge=1, description="Root fields of one operation.")
    api_max_cost: int = Field(
        10_000,
        ge=100,
        description="Objects that one operation may read: each counts one, a connection multiplies what is below it by "
        "`first`, a plain list by 5.",
    )
    api_max_subscriptions_per_connection: int = Field(
        100, ge=1, description="Operations that run over one WebSocket at the same time."
    )
    api_max_subscriptions_per_token: int = Field(
        4_000, ge=1, description="Subscriptions that run with one token at the same time, in one process."
    )
    log_level: str = Field(
        "INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$", description="The least severe log line that is written."
    )

    @field_validator("dangerous_allow_networks", "models", mode="before")
    @classmethod
    def _separated(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        return tuple(filter(None, (p.strip() for p in value.split(","))))

    @field_validator("public_url")
    @classmethod
    def _public_url(cls, value: str) -> str:
        url = URL(value)
        if url.user or url.password:
            raise ValueError("must not hold credentials")
        if value and (url.scheme not in ("http", "https") or not url.host or url.query_string or url.fragment):
            raise ValueError(f"{value} is not an http(s) address such as https://hooks.example")
        return value.rstrip("/")

    @field_validator("database_url")
    @classmethod
    def _database_url(cls, value: str) -> str:
        scheme, separator, rest = value.partition("://")
        if not value:
            return value
        if scheme in POSTGRES and separator:
            if find_spec("asyncpg") is None:
                raise ValueError("Postgres needs a driver that is not installed: pip install 'ringback[postgres]'")
            if not urlsplit(value).path.strip("/"):
                raise ValueError("name the database: postgres://USER:PASSWORD@HOST:PORT/NAME")
        elif scheme != "sqlite" or not separator:
            raise ValueError("must begin with postgres:// or sqlite://; there is no driver for any other database")
        elif rest in ("", ":memory:") or "?" in rest:
            raise ValueError("name a file after sqlite:// and nothing else")
        return value

    @field_validator("broker_url", "redis_url")
    @classmethod
    def _server_url(cls, value: str, info: ValidationInfo) -> str:
        schemes = ("redis", "rediss", "amqp", "amqps") if info.field_name == "broker_url" else ("redis", "rediss")
        scheme, separator, rest = value.partition("://")
        if value and (scheme not in schemes or not separator or not rest):
            # The address may hold a password.
            known = ", ".join(f"{known}://" for known in schemes)
            raise ValueError(f"must be an address that begins with one of {known}")
        return value

    @field_validator("admin_token")
    @classmethod
    def _admin_token(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and len(value.get_secret_value()) < 16:
            raise ValueError("must have at least 16 characters")
        if value is not None and not re.fullmatch(r"[\x21-\x7e]{16,512}", value.get_secret_value()):
            raise ValueError("must be 16 to 512 ASCII characters without blanks, as an Authorization header can carry")
        return value

    @property
    def database_path(self) -> Path:
        """The SQLite file of a database that is not on Postgres."""
        if self.database_url.startswith("sqlite://"):
            return Path(self.database_url.removeprefix("sqlite://"))
        return self.data_dir / "ringback.db"

    @property
    def is_embedded(self) -> bool:
        """Whether the database is a file, which serves one worker process."""
        return not self.database_url or self.database_url.startswith("sqlite:")

    @property
    def wakeups_url(self) -> str:
        """The Redis that carries wake-ups; empty when there is none."""
        return self.redis_url or (self.broker_url if self.broker_url.startswith("redis") else "")

    def address(self, port: int | None = None) -> str:
        """The address by which others reach this server: the public URL, else host and port (`port` when it is 0)."""
        host = _REACHED_AT.get(self.host, self.host)
        return self.public_url or f"http://{f'[{host}]' if ':' in host else host}:{port or self.port}"

    def load_models(self) -> None:
        """Import the modules of RINGBACK_MODELS; raises ConfigurationError when one cannot be imported."""
        for name in self.models:
            try:
                importlib.import_module(name)
            except ImportError as error:
                raise ConfigurationError(
                    f"RINGBACK_MODELS: the module {name} cannot be imported ({error}); "
                    "install it, or put its folder into PYTHONPATH"
                ) from error


def load_settings(**overrides: Any) -> Settings:
    """Read the settings; `overrides` win over the environment (the command line's options).

    Raises ConfigurationError with one line that names each wrong variable and what it must be.
    """
    try:
        return Settings(**{k: v for k, v in overrides.items() if v is not None})
    except ValidationError as error:
        raise ConfigurationError("; ".join(_sentence(e) for e in error.errors())) from error


def _sentence(error: Any) -> str:
    message = error["msg"].removeprefix("Value error, ")
    if not error["loc"]:
        return str(message)
    return f"RINGBACK_{str(error['loc'][0]).upper()}: {message}"
