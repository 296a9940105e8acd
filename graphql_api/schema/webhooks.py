"""Queries and mutations of webhooks."""

from typing import Annotated, Any
from uuid import UUID

import strawberry
from strawberry import ID, UNSET
from tortoise.queryset import QuerySet

from ringback.graphql_api.context.request_context import Info
from ringback.graphql_api.fields.arguments import (
    Update,
    check_query_models,
    check_query_text,
    given_fields,
    or_none,
    parse_query_id,
)
from ringback.graphql_api.fields.descriptions import describe_id, input_type, object_type, optional_field
from ringback.graphql_api.fields.enums import Action, HttpMethod, SuccessPolicy
from ringback.graphql_api.fields.input_errors import InputError, errors_field
from ringback.graphql_api.fields.relay import After, Connection, First, read_merged_page, read_page
from ringback.graphql_api.fields.root_fields import mutation, query
from ringback.graphql_api.schema import webhook_descriptions as about
from ringback.graphql_api.schema.delivery_types import Webhook
from ringback.models.database.keyset import Page
from ringback.models.database.row_decoding import find_row
from ringback.models.ids import Prefix
from ringback.models.services import webhook_search
from ringback.models.services.webhook_spec import WebhookSpec
from ringback.models.webhook import DEFAULT_TIMEOUT_SECONDS, default_retry_delays
from ringback.models.webhook import Webhook as WebhookRow


@input_type
class HeaderInput:
    """A header to send."""

    name: str = strawberry.field(description="Header name. Example: `X-Shop`.")
    value: str = strawberry.field(description="Header value. May contain Liquid. Example: `{{ item.number }}`.")


@input_type
class CreateWebhookInput:
    """A new webhook."""

    model: str = strawberry.field(description="Name of the model to watch, one of `webhookModels`. Example: `lead`.")
    actions: list[Action] = strawberry.field(description=about.ACTIONS)
    url: str = strawberry.field(description=about.URL)
    name: str | None = optional_field(about.NAME)
    method: HttpMethod = strawberry.field(default=HttpMethod.POST, description=about.METHOD)
    is_active: bool = strawberry.field(default=True, description=about.IS_ACTIVE)
    send_json: bool = strawberry.field(default=False, description=about.SEND_JSON)
    body_template: str = strawberry.field(default="", description=about.BODY_TEMPLATE)
    content_type: str | None = optional_field(about.CONTENT_TYPE)
    headers: list[HeaderInput] = strawberry.field(default_factory=list, description=about.HEADERS)
    condition: str | None = optional_field(about.CONDITION)
    retry_delays_seconds: list[int] = strawberry.field(
        default_factory=default_retry_delays, description=about.RETRY_DELAYS_SECONDS
    )
    timeout_seconds: float = strawberry.field(default=DEFAULT_TIMEOUT_SECONDS, description=about.TIMEOUT_SECONDS)
    success_policy: SuccessPolicy = strawberry.field(default=SuccessPolicy.STATUS_200, description=about.SUCCESS_POLICY)
    max_concurrency: int | None = optional_field(about.MAX_CONCURRENCY)
    rate_limit_per_second: float | None = optional_field(about.RATE_LIMIT_PER_SECOND)


@input_type
class UpdateWebhookInput(Update):
    """Changes to a webhook. Omitted fields keep their values; lists are replaced as a whole."""

    id: ID = strawberry.field(description=describe_id("Webhook id", Prefix.WEBHOOK))
    actions: list[Action] | None = optional_field(about.ACTIONS, UNSET)
    url: str | None = optional_field(about.URL, UNSET)
    name: str | None = optional_field(f"{about.NAME} Null clears it.", UNSET)
    method: HttpMethod | None = optional_field(about.METHOD, UNSET)
    is_active: bool | None = optional_field(
        f"{about.IS_ACTIVE} Deactivating a webhook cancels its waiting events, except test events.", UNSET
    )
    send_json: bool | None = optional_field(about.SEND_JSON, UNSET)
    body_template: str | None = optional_field(about.BODY_TEMPLATE, UNSET)
    content_type: str | None = optional_field(about.CONTENT_TYPE, UNSET)
    headers: list[HeaderInput] | None = optional_field(about.HEADERS, UNSET)
    condition: str | None = optional_field(about.CONDITION, UNSET)
    retry_delays_seconds: list[int] | None = optional_field(about.RETRY_DELAYS_SECONDS, UNSET)
    timeout_seconds: float | None = optional_field(about.TIMEOUT_SECONDS, UNSET)
    success_policy: SuccessPolicy | None = optional_field(about.SUCCESS_POLICY, UNSET)
    max_concurrency: int | None = optional_field(about.MAX_CONCURRENCY, UNSET)
    rate_limit_per_second: float | None = optional_field(about.RATE_LIMIT_PER_SECOND, UNSET)


@input_type
class WebhookFilter:
    """Conditions that the listed webhooks must meet, combined with AND."""

    models: list[str] | None = optional_field('Only webhooks that watch these models. Example: `["lead"]`.')
    is_active: bool | None = optional_field("Only webhooks that are active (`true`) or inactive (`false`).")
    search: str | None = optional_field(
        "Only webhooks whose name or URL contains this text, ignoring case. Example: `crm`."
    )
    include_deleted: bool | None = strawberry.field(
        default=False, description="Whether to include deleted webhooks (`true`)."
    )


@object_type
class CreateWebhookPayload:
    """Result of createWebhook."""

    webhook: Webhook | None = optional_field("The new webhook.")
    signing_secret: str | None = optional_field(
        "Secret (`whsec_…`) with which the receiver verifies requests. It cannot be read again."
    )
    errors: list[InputError] = errors_field()


@object_type
class UpdateWebhookPayload:
    """Result of updateWebhook."""

    webhook: Webhook | None = optional_field("The updated webhook.")
    errors: list[InputError] = errors_field()


@object_type
class DeleteWebhookPayload:
    """Result of deleteWebhook."""

    deleted_id: ID | None = optional_field("Id of the deleted webhook.")
    errors: list[InputError] = errors_field()


WebhookId = Annotated[ID, strawberry.argument(description=describe_id("Webhook id", Prefix.WEBHOOK))]


@strawberry.type
class WebhookQuery:
    """The queries `webhook` and `webhooks`."""

    @query(
        """
        query {
          webhook(id: "whk_01h455vb4pex5vsknk084sn02q") { name url isActive lastAttempt { outcome statusCode } }
        }
        """
    )
    async def webhook(self, id: WebhookId) -> Webhook | None:
        """Look up a webhook by id, even if it was deleted. Null if there is none."""
        row = await find_row(WebhookRow, parse_query_id(Prefix.WEBHOOK, id))
        return None if row is None else Webhook.of(row)

    @query(
        """
        query {
          webhooks(first: 20, filter: {models: ["lead"], isActive: true}) {
            nodes { id name url actions }
            pageInfo { hasNextPage endCursor }
          }
        }
        """
    )
    async def webhooks(
        self,
        first: First = 20,
        after: After = None,
        filter: Annotated[
            WebhookFilter | None, strawberry.argument(description="Conditions. Null lists all webhooks not deleted.")
        ] = None,
    ) -> Connection[Webhook] | None:
        """List webhooks, newest first."""
        conditions = filter or WebhookFilter()
        webhooks = _find_matching(conditions)
        if not conditions.search:
            return await read_page(webhooks, first, after, Webhook.of)
        text = check_query_text(conditions.search, "filter.search")

        async def read_newest(limit: int, below: UUID | None) -> Page[WebhookRow]:
            return Page(await webhook_search.find_newest(webhooks, text, limit, below))

        return await read_merged_page([read_newest], first, after, Webhook.of)


@strawberry.type
class WebhookMutation:
    """The mutations `createWebhook`, `updateWebhook` and `deleteWebhook`."""

    @mutation(
        """
        mutation {
          createWebhook(
            input: {
              model: "lead"
              actions: [CREATED]
              url: "https://crm.example/leads"
              bodyTemplate: "name={{ item.name | url_encode }}&phone={{ item.phone | url_encode }}"
            }
          ) {
            webhook { id }
            signingSecret
            errors { field message }
          }
        }
        """
    )
    async def create_webhook(
        self, info: Info, input: Annotated[CreateWebhookInput, strawberry.argument(description="The new webhook.")]
    ) -> CreateWebhookPayload | None:
        """Create a webhook. Only this result contains its signing secret."""
        webhook, secret = await info.context.services.webhooks.create(WebhookSpec(**_spec_fields(input)))
        return CreateWebhookPayload(webhook=Webhook.of(webhook), signing_secret=secret)

    @mutation(
        """
        mutation {
          updateWebhook(input: {id: "whk_01h455vb4pex5vsknk084sn02q", isActive: false}) {
            webhook { isActive updatedAt }
            errors { field message }
          }
        }
        """
    )
    async def update_webhook(
        self, info: Info, input: Annotated[UpdateWebhookInput, strawberry.argument(description="The changes.")]
    ) -> UpdateWebhookPayload | None:
        """Update a webhook. Waiting events are delivered with the new configuration."""
        expected = or_none(input.expected_updated_at)
        webhook = await info.context.services.webhooks.update(input.id, _spec_fields(input), expected)
        return UpdateWebhookPayload(webhook=Webhook.of(webhook))

    @mutation(
        """
        mutation {
          deleteWebhook(id: "whk_01h455vb4pex5vsknk084sn02q") { deletedId errors { message } }
        }
        """
    )
    async def delete_webhook(self, info: Info, id: WebhookId) -> DeleteWebhookPayload | None:
        """Delete a webhook. Its waiting events are cancelled, and its history stays readable."""
        await info.context.services.webhooks.delete(id)
        return DeleteWebhookPayload(deleted_id=id)


def _find_matching(filter: WebhookFilter) -> QuerySet[WebhookRow]:
    """Return the webhooks that meet a filter, except for its search text.

    Raises BAD_USER_INPUT for model names that no webhook can have.
    """
    webhooks = WebhookRow.all()
    if not filter.include_deleted:
        webhooks = webhooks.filter(deleted_at=None)
    models = check_query_models(filter.models)
    if models is not None:
        webhooks = webhooks.filter(model__in=models)
    if filter.is_active is not None:
        webhooks = webhooks.filter(is_active=filter.is_active)
    return webhooks


def _spec_fields(input: CreateWebhookInput | UpdateWebhookInput) -> dict[str, Any]:
    """Return the given fields with their types in WebhookSpec: tuples instead of lists, pairs instead of headers."""
    fields = given_fields(input)
    for name in ("actions", "retry_delays_seconds"):
        if fields.get(name) is not None:
            fields[name] = tuple(fields[name])
    if fields.get("headers") is not None:
        fields["headers"] = tuple((header.name, header.value) for header in fields["headers"])
    return fields
