"""The operator's limits on what one request may ask for, and how a client is told that one is reached."""

from dataclasses import dataclass, fields
from typing import Self

from ringback.graphql_api.errors import ApiError
from ringback.models.settings import Settings


@dataclass(frozen=True, slots=True)
class OperationLimits:
    """The operator's limits; see the settings RINGBACK_API_MAX_…."""

    body_bytes: int = 1_048_576
    tokens: int = 5_000
    depth: int = 20
    aliases: int = 100
    root_fields: int = 50
    cost: int = 10_000
    subscriptions_per_connection: int = 100
    subscriptions_per_token: int = 4_000

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """The limits that the settings say."""
        return cls(**{field.name: getattr(settings, f"api_max_{field.name}") for field in fields(cls)})


def limit_exceeded(limit: str, allowed: int, message: str) -> ApiError:
    """The refusal of what is over a limit; `limit` names it for programs."""
    return ApiError("LIMIT_EXCEEDED", message, limit=limit, allowed=allowed)


def too_deep(limits: OperationLimits) -> ApiError:
    """The refusal of a document that cannot even be measured."""
    return limit_exceeded(
        "depth", limits.depth, f"The document is nested too deeply; {limits.depth:,} levels are allowed."
    )
