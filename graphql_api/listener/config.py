"""uvicorn's configuration with the listener's limits and counts, which both protocols read."""

import resource
from dataclasses import dataclass, field
from typing import Any

import uvicorn

from ringback.graphql_api.listener.byte_budget import ByteBudget
from ringback.graphql_api.listener.client_slots import ClientSlots
from ringback.graphql_api.listener.http_limits import HttpLimits
from ringback.graphql_api.listener.refusals import RefusalLog
from ringback.models.settings import Settings


def limit_connections(settings: Settings) -> int:
    """Return the most connections: those of the settings, or fewer where the system allows fewer open files."""
    open_files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return min(settings.http_max_connections, open_files * 3 // 4)


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
