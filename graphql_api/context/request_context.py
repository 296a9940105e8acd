"""The context that resolvers get: the caller's token, the program's services, and the DataLoaders of the request."""

import time
from dataclasses import dataclass, field
from typing import TypeAlias

import strawberry

from ringback.graphql_api.context.authentication import Authenticator
from ringback.graphql_api.context.dataloaders import Loaders
from ringback.graphql_api.context.live_log import Tailer
from ringback.graphql_api.errors import unauthenticated_error
from ringback.models.api_token import ApiToken
from ringback.models.fair_slots import HeldSlot
from ringback.models.security.inbox_addresses import InboxAddresses
from ringback.models.services.inboxes import Inboxes
from ringback.models.services.webhooks import Webhooks

#: Seconds for which a connection's token is trusted before it is checked again. A stream that is idle is checked at its
#: next event or heartbeat.
TRUSTED_SECONDS = 5.0


def _trust_until() -> float:
    return time.monotonic() + TRUSTED_SECONDS


@dataclass(frozen=True, slots=True)
class Services:
    """The program's services, made once at its start."""

    webhooks: Webhooks
    inboxes: Inboxes
    inbox_addresses: InboxAddresses
    tailer: Tailer
    authenticator: Authenticator


@dataclass(slots=True)
class Context:
    """The context of one request, or of all operations of one WebSocket connection. `viewer` is the caller's token."""

    services: Services
    viewer: ApiToken
    #: When the token must be checked again, by the monotonic clock.
    trusted_until: float = field(default_factory=_trust_until)
    loaders: Loaders = field(default_factory=Loaders)
    #: The slot that the request holds, or None.
    request_slot: HeldSlot | None = None

    def with_own_loaders(self) -> "Context":
        """Return a context with its own DataLoaders, so that each operation's rows count against its own budget."""
        return Context(self.services, self.viewer, self.trusted_until)

    async def reauthenticate(self) -> None:
        """Raise ApiError (UNAUTHENTICATED) if the token was revoked or has expired since its last check."""
        if time.monotonic() < self.trusted_until:
            return
        if not await self.services.authenticator.is_still_valid(self.viewer):
            raise unauthenticated_error()
        self.trusted_until = _trust_until()


Info: TypeAlias = strawberry.Info[Context, None]
