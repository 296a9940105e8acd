"""The settings of one process.

Each setting is an environment variable `RINGBACK_…`. `make settings` writes the table in docs/settings.md from these
descriptions.
"""

import importlib
from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from ringback.models.errors import ConfigurationError
from ringback.models.settings.values import (
    AdminToken,
    BrokerUrl,
    DatabaseUrl,
    ModuleNames,
    NamePatterns,
    Networks,
    Port,
    PortRanges,
    PublicUrl,
    RedisUrl,
)

#: The most attempts of one webhook in flight at the same time, by its own limit or by the setting.
MAX_CONCURRENCY = 1_000
#: The address to connect to on this machine when the server listens on all addresses.
_LOOPBACK = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}


class Settings(BaseSettings):
    """The settings of one process. Create them with `load_settings()`, which reports mistakes in one readable line."""

    model_config = SettingsConfigDict(env_prefix="RINGBACK_", frozen=True, extra="ignore", env_ignore_empty=True)

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: Port = Field(8000, description="Port to listen on. 0 takes a free port.")
    data_dir: Path = Field(
        Path(".ringback"),
        description="Directory for the SQLite database, the generated keys and the first admin token.",
    )
    database_url: DatabaseUrl = Field(
        "",
        description="`postgres://USER:PASSWORD@HOST:PORT/NAME`, with the options of Postgres's URLs, such as "
        "`?sslmode=require` (those that do not apply are ignored with a warning), or `sqlite://PATH`. Empty means "
        "`ringback.db` in the data directory.",
    )
    database_pool_size: int = Field(
        10, ge=3, le=1_000, description="Maximum number of Postgres connections per process."
    )
    start_timeout_seconds: float = Field(
        60.0,
        ge=0,
        allow_inf_nan=False,
        description="Seconds to wait at startup for a database that cannot be reached.",
    )
    broker_url: BrokerUrl = Field(
        "",
        description="Dramatiq broker that notifies workers of due events: `redis://…`, or `amqp://…` for RabbitMQ. "
        "Empty means an in-process broker.",
    )
    redis_url: RedisUrl = Field(
        "",
        description="Redis that notifies API processes of new log entries. Empty means the broker's Redis, if it is "
        "one. Without Redis, API processes see new entries within a second.",
    )
    secret_key: SecretStr | None = Field(
        None,
        description="Key that encrypts signing secrets in the database. Empty means a key that is generated once and "
        "stored in the data directory. Do not change it: requests of existing webhooks could no longer be signed.",
    )
    admin_token: AdminToken = Field(
        None,
        description="First admin token, 16 to 512 ASCII characters without spaces. Empty means a token that is "
        "generated, printed in the GraphiQL link and stored in the data directory.",
    )
    public_url: PublicUrl = Field(
        "", description="URL by which clients reach this server, the base of inbox URLs. Empty means host and port."
    )
    dangerous_allow_networks: Networks = Field(
        (),
        description="Networks that deliveries may reach although they are not public: CIDRs, separated by commas. "
        "Dangerous: anyone who can edit webhooks can then reach these networks.",
    )
    allow_ports: PortRanges = Field(
        "80,443,1024-65535",
        validate_default=True,
        description="Ports that deliveries may reach: ports and ranges, separated by commas. Ringback's own inboxes "
        "and the networks in `RINGBACK_DANGEROUS_ALLOW_NETWORKS` can be reached at any port.",
    )
    models: ModuleNames = Field((), description="Python modules with your own tracked models, separated by commas.")
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
        50,
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
        3_000,
        ge=1,
        description="Maximum number of subscriptions that run at the same time per token and process. All tokens "
        "together may have a third more.",
    )
    api_max_response_bytes: int = Field(
        16_777_216,
        ge=1_048_576,
        description="Maximum number of bytes that an operation may read from the database, and of long texts and JSON "
        "values in its response. Each row counts 512 bytes besides its texts. Each alias counts.",
    )
    api_introspection: bool = Field(
        True,
        description="Whether API clients may read the schema by introspection. With `false`, errors do not suggest "
        "names of the schema either, and GraphiQL has no documentation and no completion.",
    )
    api_max_subscription_tokens: int = Field(
        45_000,
        ge=1_000,
        description="Maximum number of GraphQL tokens in the documents of all subscriptions that run per API token and "
        "process. Equal documents count once. 50 characters of variables, and 400 bytes of a document, count as a "
        "token too. All API tokens together may have a third more.",
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
        "allows, if that is less. A quarter of them may be WebSocket connections of one token, a third those of all "
        "tokens.",
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
        description="Maximum number of bytes of incomplete and running requests, of WebSocket messages and operations "
        "that wait or are executed, and of unread responses and results in a process. At least twice "
        "`RINGBACK_API_MAX_BODY_BYTES`.",
    )
    trusted_proxies: Networks = Field(
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
    redact_patterns: NamePatterns = Field(
        (),
        description="Regular expressions of names of headers and query parameters whose values are secrets, besides "
        "the usual ones, separated by commas or by lines: `^x-corp-,ssn$`. They match anywhere in a name, in upper or "
        "lower case. In stored requests and responses, in errors and in the log, such values are redacted.",
    )
    log_level: str = Field(
        "INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$", description="Least severe level that is logged."
    )

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
