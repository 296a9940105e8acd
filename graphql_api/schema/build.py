"""The schema, built from the modules of this package."""

import re
from collections.abc import Callable
from typing import Any, cast

import strawberry
from graphql import GraphQLObjectType, GraphQLResolveInfo, is_named_type
from strawberry.schema.config import StrawberryConfig

from ringback.graphql_api.execution.input_objects import speed_up_input_objects
from ringback.graphql_api.fields.core_schema import core_schema
from ringback.graphql_api.fields.descriptions import object_type
from ringback.graphql_api.fields.scalars import SCALARS
from ringback.graphql_api.schema.api_tokens import ApiTokenMutation, ApiTokenQuery
from ringback.graphql_api.schema.customer_orders import CustomerOrderMutation, CustomerOrderQuery
from ringback.graphql_api.schema.delivery_log import DeliveryLogSubscription
from ringback.graphql_api.schema.events import EventMutation, EventQuery
from ringback.graphql_api.schema.global_node import NodeQuery
from ringback.graphql_api.schema.inboxes import InboxMutation, InboxQuery, InboxSubscription
from ringback.graphql_api.schema.leads import LeadMutation, LeadQuery
from ringback.graphql_api.schema.site_settings import SiteSettingsMutation, SiteSettingsQuery
from ringback.graphql_api.schema.webhook_models import WebhookModelMutation, WebhookModelQuery
from ringback.graphql_api.schema.webhooks import WebhookMutation, WebhookQuery


@object_type
class Query(
    NodeQuery,
    WebhookQuery,
    WebhookModelQuery,
    EventQuery,
    LeadQuery,
    SiteSettingsQuery,
    CustomerOrderQuery,
    InboxQuery,
    ApiTokenQuery,
):
    """Read operations."""


@object_type
class Mutation(
    WebhookMutation,
    WebhookModelMutation,
    EventMutation,
    LeadMutation,
    SiteSettingsMutation,
    CustomerOrderMutation,
    InboxMutation,
    ApiTokenMutation,
):
    """Write operations. If the `errors` of a payload are not empty, nothing was written."""


@object_type
class Subscription(DeliveryLogSubscription, InboxSubscription):
    """Live operations."""


def sdl() -> str:
    """Return the schema in the schema definition language, as schema.graphql holds it."""
    return re.sub(r" +$", "", schema.as_str(), flags=re.MULTILINE) + "\n"


def _build_schema() -> strawberry.Schema:
    built = strawberry.Schema(Query, Mutation, Subscription, config=StrawberryConfig(scalar_map=SCALARS))
    speed_up_input_objects(built)
    _resolve_is_one_of_for_all_types(built)
    return built


def _resolve_is_one_of_for_all_types(built: strawberry.Schema) -> None:
    """Resolve `isOneOf` of lists and non-null types to null; Strawberry's resolver raises an error for them."""
    introspection_type = cast(GraphQLObjectType, core_schema(built).type_map["__Type"])
    field = introspection_type.fields["isOneOf"]
    resolve_of_named_type = cast(Callable[..., bool | None], field.resolve)

    def resolve(kind: object, info: GraphQLResolveInfo[Any]) -> bool | None:
        if not is_named_type(kind):
            return None
        return resolve_of_named_type(kind, info)

    field.resolve = resolve


schema = _build_schema()
