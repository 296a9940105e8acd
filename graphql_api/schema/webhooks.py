"""Webhooks: what administrators ask and do."""

from typing import Annotated, Any

import strawberry
from strawberry import ID, UNSET
from tortoise.expressions import Q
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
from ringback.graphql_api.fields.descriptions import id_description, optional_field
from ringback.graphql_api.fields.enums import Action, HttpMethod, SuccessPolicy
from ringback.graphql_api.fields.input_errors import InputError
from ringback.graphql_api.fields.relay import After, Connection, First, page
from ringback.graphql_api.fields.root_fields import mutation, query
from ringback.graphql_api.schema.delivery_types import ABOUT, Webhook
from ringback.models.ids import Prefix
from ringback.models.services.webhook_spec import WebhookSpec
from ringback.models.webhook import DEFAULT_TIMEOUT_SECONDS, default_retry_delays
from ringback.models.webhook import Webhook as WebhookRow

NULL_CLEARS = " Null clears it."


@strawberry.input(description="A header to send.")
class HeaderInput:
    """A name and a value."""

    name: str = strawberry.field(description="The header's name, such as `X-Shop`.")
    value: str = strawberry.field(description="The header's value; may hold Liquid: `{{ item.number }}`.")


@strawberry.input(description="A new webhook.")
class CreateWebhookInput:
    """All that a webhook is."""

    model: str = strawberry.field(description="The name of the model to watch, such as `lead`; see webhookModels.")
    actions: list[Action] = strawberry.field(description=ABOUT["actions"])
    url: str = strawberry.field(description=ABOUT["url"])
    name: str | None = optional_field(ABOUT["name"])
    method: HttpMethod = strawberry.field(default=HttpMethod.POST, description=ABOUT["method"])
    is_active: bool = strawberry.field(default=True, description=ABOUT["is_active"])
    send_json: bool = strawberry.field(default=False, description=ABOUT["send_json"])
    body_template: str = strawberry.field(default="", description=ABOUT["body_template"])
    content_type: str | None = optional_field(ABOUT["content_type"])
    headers: list[HeaderInput] = strawberry.field(default_factory=list, description=ABOUT["headers"])
    condition: str | None = optional_field(ABOUT["condition"])
    retry_delays_seconds: list[int] = strawberry.field(
        default_factory=default_retry_delays, description=ABOUT["retry_delays_seconds"]
    )
    timeout_seconds: float = strawberry.field(default=DEFAULT_TIMEOUT_SECONDS, description=ABOUT["timeout_seconds"])
    success_policy: SuccessPolicy = strawberry.field(
        default=SuccessPolicy.STATUS_200, description=ABOUT["success_policy"]
    )
    max_concurrency: int | None = optional_field(ABOUT["max_concurrency"])
    rate_limit_per_second: float | None = optional_field(ABOUT["rate_limit_per_second"])


@strawberry.input(description="Changes to a webhook; what is left out stays as it is, lists replace the whole.")
class UpdateWebhookInput(Update):
    """What may be changed."""

    id: ID = strawberry.field(description=id_description("whk"))
    actions: list[Action] | None = optional_field(ABOUT["actions"], UNSET)
    url: str | None = optional_field(ABOUT["url"], UNSET)
    name: str | None = optional_field(ABOUT["name"] + NULL_CLEARS, UNSET)
    method: HttpMethod | None = optional_field(ABOUT["method"], UNSET)
    is_active: bool | None = optional_field(
        ABOUT["is_active"] + " Deactivating it cancels the events that wait.", UNSET
    )
    send_json: bool | None = optional_field(ABOUT["send_json"], UNSET)
    body_template: str | None = optional_field(ABOUT["body_template"], UNSET)
    content_type: str | None = optional_field(ABOUT["content_type"] + NULL_CLEARS, UNSET)
    headers: list[HeaderInput] | None = optional_field(ABOUT["headers"], UNSET)
    condition: str | None = optional_field(ABOUT["condition"] + NULL_CLEARS, UNSET)
    retry_delays_seconds: list[int] | None = optional_field(ABOUT["retry_delays_seconds"], UNSET)
    timeout_seconds: float | None = optional_field(ABOUT["timeout_seconds"], UNSET)
    success_policy: SuccessPolicy | None = optional_field(ABOUT["success_policy"], UNSET)
    max_concurrency: int | None = optional_field(ABOUT["max_concurrency"], UNSET)
    rate_limit_per_second: float | None = optional_field(ABOUT["rate_limit_per_second"], UNSET)


@strawberry.input(description="Which webhooks to list; conditions are combined with AND.")
class WebhookFilter:
    """Conditions on webhooks."""

    models: list[str] | None = optional_field('Of these models, such as `["lead"]`.')
    is_active: bool | None = optional_field("Active ones (`true`), or inactive ones (`false`).")
    search: str | None = optional_field("Whose name or URL contains this text, such as `crm`; case is ignored.")
    include_deleted: bool | None = strawberry.field(default=False, description="Deleted ones too (`true`).")


@strawberry.type(description="The answer to createWebhook.")
class CreateWebhookPayload:
    """A new webhook, or errors."""

    webhook: Webhook | None = optional_field("The new webhook.")
    signing_secret: str | None = optional_field(
        "whsec_…, with which the receiver verifies requests. It is shown this once."
    )
    errors: list[InputError] = strawberry.field(default_factory=list, description="What to mend; empty on success.")


@strawberry.type(description="The answer to updateWebhook.")
class UpdateWebhookPayload:
    """The changed webhook, or errors."""

    webhook: Webhook | None = optional_field("The webhook as it is now.")
    errors: list[InputError] = strawberry.field(default_factory=list, description="What to mend; empty on success.")


@strawberry.type(description="The answer to deleteWebhook.")
class DeleteWebhookPayload:
    """The deleted webhook's id, or errors."""

    deleted_id: ID | None = optional_field("The id of the webhook that was deleted.")
    errors: list[InputError] = strawberry.field(default_factory=list, description="What to mend; empty on success.")


WebhookId = Annotated[ID, strawberry.argument(description=id_description("whk"))]


@strawberry.type
class WebhookQuery:
    """Root fields of this slice."""

    @query(
        "A webhook by its id, deleted ones included; null when there is none.",
        """
        query {
          webhook(id: "whk_01h455vb4pex5vsknk084sn02q") { name url isActive lastAttempt { outcome statusCode } }
        }
        """,
    )
    async def webhook(self, id: WebhookId) -> Webhook | None:
        """One webhook."""
        row = await WebhookRow.get_or_none(id=parse_query_id(Prefix.WEBHOOK, id))
        return Webhook.of(row) if row else None

    @query(
        "The webhooks, newest first.",
        """
        query {
          webhooks(first: 20, filter: {models: ["lead"], isActive: true}) {
            nodes { id name url actions }
            pageInfo { hasNextPage endCursor }
          }
        }
        """,
    )
    async def webhooks(
        self,
        first: First = 20,
        after: After = None,
        filter: Annotated[WebhookFilter | None, strawberry.argument(description="Which ones.")] = None,
    ) -> Connection[Webhook] | None:
        """A page of webhooks."""
        return await page(_filtered(filter or WebhookFilter()), first, after, Webhook.of)


def _filtered(filter: WebhookFilter) -> QuerySet[WebhookRow]:
    """The webhooks that meet all conditions; raises a BAD_USER_INPUT error for texts that nothing can hold."""
    rows = WebhookRow.all()
    if not filter.include_deleted:
        rows = rows.filter(deleted_at=None)
    models = check_query_models(filter.models)
    if models is not None:
        rows = rows.filter(model__in=models)
    if filter.is_active is not None:
        rows = rows.filter(is_active=filter.is_active)
    if filter.search:
        text = check_query_text(filter.search, "filter.search")
        rows = rows.filter(Q(name__icontains=text) | Q(url__icontains=text))
    return rows


@strawberry.type
class WebhookMutation:
    """Root fields of this slice."""

    @mutation(
        "Create a webhook. The answer alone shows its signing secret.",
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
        """,
    )
    async def create_webhook(
        self, info: Info, input: Annotated[CreateWebhookInput, strawberry.argument(description="The new webhook.")]
    ) -> CreateWebhookPayload | None:
        """Create."""
        webhook, secret = await info.context.services.webhooks.create(WebhookSpec(**_values(input)))
        return CreateWebhookPayload(webhook=Webhook.of(webhook), signing_secret=secret)

    @mutation(
        "Change a webhook. Waiting events are delivered as it is configured then.",
        """
        mutation {
          updateWebhook(input: {id: "whk_01h455vb4pex5vsknk084sn02q", isActive: false}) {
            webhook { isActive updatedAt }
            errors { field message }
          }
        }
        """,
    )
    async def update_webhook(
        self, info: Info, input: Annotated[UpdateWebhookInput, strawberry.argument(description="What to change.")]
    ) -> UpdateWebhookPayload | None:
        """Update."""
        expected = or_none(input.expected_updated_at)
        webhook = await info.context.services.webhooks.update(input.id, _values(input), expected)
        return UpdateWebhookPayload(webhook=Webhook.of(webhook))

    @mutation(
        "Delete a webhook: it fires no more and its waiting events are cancelled.",
        """
        mutation {
          deleteWebhook(id: "whk_01h455vb4pex5vsknk084sn02q") { deletedId errors { message } }
        }
        """,
    )
    async def delete_webhook(self, info: Info, id: WebhookId) -> DeleteWebhookPayload | None:
        """Delete, softly."""
        await info.context.services.webhooks.delete(id)
        return DeleteWebhookPayload(deleted_id=id)


def _values(input: CreateWebhookInput | UpdateWebhookInput) -> dict[str, Any]:
    """The given fields as the domain's WebhookSpec names and types them."""
    values = given_fields(input)
    for name in ("actions", "retry_delays_seconds"):
        if values.get(name) is not None:
            values[name] = tuple(values[name])
    if values.get("headers") is not None:
        values["headers"] = tuple((header.name, header.value) for header in values["headers"])
    return values
