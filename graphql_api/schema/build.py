"""The schema: all slices put together."""

import re

import strawberry
from graphql import is_named_type
from strawberry.schema.config import StrawberryConfig

from ringback.graphql_api.execution.input_objects import speed_up_input_objects
from ringback.graphql_api.fields.core_schema import core_schema
from ringback.graphql_api.fields.scalars import SCALARS
from ringback.graphql_api.schema.api_tokens import AccessMutation, AccessQuery
from ringback.graphql_api.schema.customer_orders import OrderMutation, OrderQuery
from ringback.graphql_api.schema.delivery_log import LogSubscription
from ringback.graphql_api.schema.events import EventMutation, EventQuery
from ringback.graphql_api.schema.global_node import NodeQuery
from ringback.graphql_api.schema.inboxes import InboxMutation, InboxQuery, InboxSubscription
from ringback.graphql_api.schema.leads import LeadMutation, LeadQuery
from ringback.graphql_api.schema.site_settings import SiteSettingsMutation, SiteSettingsQuery
from ringback.graphql_api.schema.webhook_models import CatalogMutation, CatalogQuery
from ringback.graphql_api.schema.webhooks import WebhookMutation, WebhookQuery


@strawberry.type(description="What can be asked.")
class Query(
    NodeQuery, WebhookQuery, CatalogQuery, EventQuery, LeadQuery, SiteSettingsQuery, OrderQuery, InboxQuery, AccessQuery
):
    """The query root."""


@strawberry.type(description="What can be done. Nothing is written when a payload's errors are not empty.")
class Mutation(
    WebhookMutation,
    CatalogMutation,
    EventMutation,
    LeadMutation,
    SiteSettingsMutation,
    OrderMutation,
    InboxMutation,
    AccessMutation,
):
    """The mutation root."""


@strawberry.type(description="What can be followed live.")
class Subscription(LogSubscription, InboxSubscription):
    """The subscription root."""


schema = strawberry.Schema(Query, Mutation, Subscription, config=StrawberryConfig(scalar_map=SCALARS))
speed_up_input_objects(schema)


def _answer_is_one_of_for_all_types() -> None:
    """Return null for lists and non-null types, on which Strawberry's resolver fails with an internal error."""
    field = core_schema(schema).type_map["__Type"].fields["isOneOf"]  # type: ignore[attr-defined]
    of_named_type = field.resolve
    field.resolve = lambda kind, info: of_named_type(kind, info) if is_named_type(kind) else None


_answer_is_one_of_for_all_types()


def sdl() -> str:
    """The schema in the schema definition language, as schema.graphql holds it."""
    return re.sub(r" +$", "", schema.as_str(), flags=re.MULTILINE) + "\n"
