"""uvicorn's configuration with the listener's limits and counts, which both protocols read."""

import sys
from dataclasses import dataclass, field
from typing import Any, Self

import uvicorn

from ringback.graphql_api.listener.byte_budget import ByteBudget
from ringback.graphql_api.listener.client_slots import ClientSlots
from ringback.graphql_api.listener.refusals import RefusalLog
from ringback.models.settings import Settings

if sys.platform != "win32":
    import resource


def limit_connections(settings: Settings) -> int:
    """Return the most connections: those of the settings, or fewer where the system allows fewer open files."""
    if sys.platform == "win32":
        return settings.http_max_connections
    open_files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return min(settings.http_max_connections, open_files * 3 // 4)


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """The limits from the settings RINGBACK_HTTP_…, for one connection."""

    url_bytes: int = 65_536
    header_bytes: int = 65_536
    headers: int = 100
    header_seconds: float = 10.0
    body_seconds: float = 60.0
    read_seconds: float = 60.0

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Return the limits that the settings give."""
        return cls(
            url_bytes=settings.http_max_url_bytes,
            header_bytes=settings.http_max_header_bytes,
            headers=settings.http_max_headers,
            header_seconds=settings.http_header_seconds,
            body_seconds=settings.http_body_seconds,
            read_seconds=settings.http_read_seconds,
        )


@dataclass(frozen=True, slots=True)
class Guard:
    """The limits of each connection, and the counts that all connections share."""

    limits: HttpLimits
    connections: ClientSlots
    budget: ByteBudget
    refusals: RefusalLog = field(default_factory=RefusalLog)


class ListenerConfig(uvicorn.Config):
    """uvicorn's configuration, with a guard."""

    def __init__(self, guard: Guard, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.guard = guard
