"""What resolvers work with: who asks, the services of the program, and the loaders of this request."""

import time
from dataclasses import dataclass, field
from typing import TypeAlias

import strawberry

from ringback.graphql_api.context.authentication import Authenticator
from ringback.graphql_api.context.dataloaders import Loaders
from ringback.graphql_api.context.live_log import Tailer
from ringback.graphql_api.errors import unauthenticated
from ringback.models.api_token import ApiToken
from ringback.models.security.inbox_addresses import InboxAddresses
from ringback.models.services.inboxes import Inboxes
from ringback.models.services.webhooks import Webhooks

#: How long a token that was found valid is trusted without another look, in seconds: what a revocation takes at most to
#: end what runs over a connection that was opened before it.
TRUSTED_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Services:
    """The program's services, made once at its start."""

    webhooks: Webhooks
    inboxes: Inboxes
    inbox_addresses: InboxAddresses
    tailer: Tailer
    bearers: Authenticator


@dataclass(slots=True)
class Context:
    """The context of one request, or of all operations of one WebSocket connection; `viewer` is who asks."""

    services: Services
    viewer: ApiToken
    trusted_until: float = field(default_factory=lambda: time.monotonic() + TRUSTED_SECONDS)
    loaders: Loaders = field(default_factory=Loaders)

    async def reauthenticate(self) -> None:
        """Raises UNAUTHENTICATED when the token was revoked, or has expired, since it was looked at last."""
        if time.monotonic() < self.trusted_until:
            return
        if not await self.services.bearers.still_valid(self.viewer):
            raise unauthenticated()
        self.trusted_until = time.monotonic() + TRUSTED_SECONDS


Info: TypeAlias = strawberry.Info[Context, None]
