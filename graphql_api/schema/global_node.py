"""`node(id:)`: any object by its id alone, as clients with a normalised cache ask again for what they hold (Relay's
Global Object Identification).

A new kind of object is one more line in `KINDS`.
"""

from collections.abc import Callable, Mapping
from typing import Annotated, Any

import strawberry
from strawberry import ID
from tortoise.models import Model

from ringback.graphql_api.context import dataloaders
from ringback.graphql_api.context.request_context import Info
from ringback.graphql_api.errors import bad_user_input
from ringback.graphql_api.fields.arguments import parse_query_id
from ringback.graphql_api.fields.relay import Node
from ringback.graphql_api.fields.root_fields import query
from ringback.graphql_api.schema.api_tokens import ApiToken
from ringback.graphql_api.schema.customer_orders import CustomerOrder
from ringback.graphql_api.schema.delivery_types import Attempt, Change, Event, InboxRequest, Webhook
from ringback.graphql_api.schema.inboxes import Inbox
from ringback.graphql_api.schema.leads import Lead
from ringback.graphql_api.schema.site_settings import SITE_SETTINGS, SiteSettings
from ringback.graphql_api.schema.webhook_models import WebhookModel
from ringback.models import api_token, customer_order, event, inbox, lead, site_settings, webhook
from ringback.models.ids import Prefix, is_id
from ringback.models.services import webhook_models
from ringback.models.tracking.registry import NAME


def _token(row: api_token.ApiToken, info: Info) -> ApiToken | None:
    """The token of a row; a revoked one is seen by nobody."""
    return None if row.revoked_at is not None else ApiToken.of(row)


#: What the prefix of an id says: a table, and what makes a node of a row.
KINDS: Mapping[Prefix, tuple[type[Model], Callable[[Any, Info], Node | None]]] = {
    Prefix.WEBHOOK: (webhook.Webhook, lambda row, info: Webhook.of(row)),
    Prefix.CHANGE: (event.Change, lambda row, info: Change.of(row)),
    Prefix.EVENT: (event.Event, lambda row, info: Event.of(row)),
    Prefix.ATTEMPT: (event.Attempt, lambda row, info: Attempt.of(row)),
    Prefix.LEAD: (lead.Lead, lambda row, info: Lead.of(row)),
    Prefix.ORDER: (customer_order.CustomerOrder, lambda row, info: CustomerOrder.of(row)),
    Prefix.INBOX: (inbox.Inbox, Inbox.at),
    Prefix.REQUEST: (inbox.InboxRequest, lambda row, info: InboxRequest.of(row)),
    Prefix.TOKEN: (api_token.ApiToken, _token),
}


@strawberry.type
class NodeQuery:
    """The root field."""

    @query(
        "Any object by its id; null when the id names nothing.",
        """
        query {
          node(id: "evt_01h455vb4pex5vsknk084sn02q") { __typename id ... on Event { status } }
        }
        """,
    )
    async def node(
        self,
        info: Info,
        id: Annotated[
            ID,
            strawberry.argument(
                description="An id of any kind, such as `evt_01h455vb4pex5vsknk084sn02q`; a model's is its name, the "
                "settings' is `site_settings`."
            ),
        ],
    ) -> Node | None:
        """One object."""
        prefix = id.partition("_")[0]
        if id == SITE_SETTINGS:
            return SiteSettings.of(await site_settings.SiteSettings.get(id=1))
        if NAME.fullmatch(id) and not is_id(id) and (watchable := await webhook_models.find(id)):
            return WebhookModel.of(watchable)
        if "_" in id and prefix in KINDS:
            model, make_node = KINDS[Prefix(prefix)]
            row = await info.context.loaders[dataloaders.row].load((model, parse_query_id(prefix, id)))
            return None if row is None else make_node(row, info)
        if NAME.fullmatch(id):
            return None
        raise bad_user_input(
            f"id: {id[:80]!r} is no id; one looks like evt_01h455vb4pex5vsknk084sn02q, a model's like customer_order"
        )
