"""`node(id:)`: any object by its id (Relay's Global Object Identification), for clients with a normalised cache.

To add a kind of object, add a line to `KINDS`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import strawberry
from strawberry import ID

from ringback.graphql_api.context import dataloaders
from ringback.graphql_api.context.request_context import Info
from ringback.graphql_api.errors import bad_user_input
from ringback.graphql_api.fields.arguments import parse_query_id
from ringback.graphql_api.fields.descriptions import SUFFIX
from ringback.graphql_api.fields.relay import Node
from ringback.graphql_api.fields.root_fields import query
from ringback.graphql_api.schema.api_tokens import ApiToken
from ringback.graphql_api.schema.customer_orders import CustomerOrder
from ringback.graphql_api.schema.delivery_types import Attempt, Change, Event, InboxRequest, Webhook
from ringback.graphql_api.schema.inboxes import Inbox
from ringback.graphql_api.schema.leads import Lead
from ringback.graphql_api.schema.site_settings import SITE_SETTINGS, SiteSettings
from ringback.graphql_api.schema.webhook_models import WebhookModel
from ringback.models import api_token, customer_order, inbox, lead, site_settings
from ringback.models.ids import Prefix, is_id
from ringback.models.services import webhook_models
from ringback.models.tracking.registry import NAME_PATTERN

NodeId = Annotated[
    ID,
    strawberry.argument(
        description="Id of any object. A model's id is its name, and that of the settings is `site_settings`. "
        f"Example: `evt_{SUFFIX}`."
    ),
]


@dataclass(frozen=True, slots=True)
class Kind:
    """The loader of a kind of object, and the function that makes a node of its row; None hides the row."""

    load: dataloaders.Load
    make_node: Callable[[Any, Info], Node | None]


def _by_row(node: type[Node]) -> Callable[[Any, Info], Node | None]:
    return lambda row, _: node.of(row)


def _unrevoked_token(row: api_token.ApiToken, _: Info) -> ApiToken | None:
    return None if row.revoked_at is not None else ApiToken.of(row)


KINDS: Mapping[Prefix, Kind] = {
    Prefix.WEBHOOK: Kind(dataloaders.webhook, _by_row(Webhook)),
    Prefix.CHANGE: Kind(dataloaders.change, _by_row(Change)),
    Prefix.EVENT: Kind(dataloaders.event, _by_row(Event)),
    Prefix.ATTEMPT: Kind(dataloaders.attempt, _by_row(Attempt)),
    Prefix.LEAD: Kind(dataloaders.make_row_loader(lead.Lead), _by_row(Lead)),
    Prefix.ORDER: Kind(dataloaders.make_row_loader(customer_order.CustomerOrder), _by_row(CustomerOrder)),
    Prefix.INBOX: Kind(dataloaders.make_row_loader(inbox.Inbox), Inbox.with_url),
    Prefix.REQUEST: Kind(
        dataloaders.make_row_loader(inbox.InboxRequest, only=inbox.REQUEST_WITHOUT_BODY), _by_row(InboxRequest)
    ),
    Prefix.TOKEN: Kind(dataloaders.make_row_loader(api_token.ApiToken), _unrevoked_token),
}


@strawberry.type
class NodeQuery:
    """The query `node`."""

    @query(
        """
        query {
          node(id: "evt_01h455vb4pex5vsknk084sn02q") { __typename id ... on Event { status } }
        }
        """
    )
    async def node(self, info: Info, id: NodeId) -> Node | None:
        """Look up any object by id. Null if there is none."""
        if id == SITE_SETTINGS:
            return SiteSettings.of(await site_settings.SiteSettings.get(id=1))
        could_be_a_name = NAME_PATTERN.fullmatch(id) is not None
        if could_be_a_name and not is_id(id):
            model = await webhook_models.find(id)
            if model is not None:
                return WebhookModel.of(model)
        prefix, separator, _ = id.partition("_")
        if separator and prefix in KINDS:
            kind = KINDS[Prefix(prefix)]
            row = await info.context.loaders[kind.load].load(parse_query_id(prefix, id))
            return None if row is None else kind.make_node(row, info)
        if could_be_a_name:
            return None
        raise bad_user_input(
            f"id: {id[:80]!r} is not an id. Send one such as evt_{SUFFIX}, or a model's name such as customer_order."
        )
