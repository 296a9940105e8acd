"""Models that webhooks can watch, the fields that templates can use, and the models of other programs.

A WebhookModel holds its name; its other fields are read when they are selected: from the code of this process for
tracked models, through a DataLoader for declared ones.
"""

from typing import Annotated, Self

import strawberry
from strawberry import ID
from strawberry.scalars import JSON

from ringback.graphql_api.context import dataloaders
from ringback.graphql_api.context.request_context import Info
from ringback.graphql_api.fields.attribute_field import RowObject, attribute, computed_field, row_paths
from ringback.graphql_api.fields.descriptions import describe_id, input_type, object_type, optional_field
from ringback.graphql_api.fields.enums import Action
from ringback.graphql_api.fields.input_errors import InputError, errors_field
from ringback.graphql_api.fields.relay import Node
from ringback.graphql_api.fields.root_fields import mutation, query
from ringback.models.ids import Prefix, encode
from ringback.models.services import webhook_models as model_service
from ringback.models.services.change_checks import Publication
from ringback.models.services.declared_models import declare_model
from ringback.models.services.publishing import Published, publish_changes
from ringback.models.services.webhook_models import WatchableModel

PUBLISHED = row_paths(Published)


@object_type
class ModelField:
    """A field that templates can use."""

    # Resolved from a FieldInfo.
    path: str = strawberry.field(
        description="Path in Liquid. `[]` stands for each element of a list, `*` for fields of any other name. "
        "Example: `item.customer.name`."
    )
    type: str = strawberry.field(
        description="Type: string, integer, float, decimal, boolean, datetime, date, time, id, object or list; json if "
        "the field may hold any JSON value."
    )
    description: str = strawberry.field(description="Description of the field.")


def _model_id(model: "WebhookModel") -> ID:
    return ID(model.name)


@object_type
class WebhookModel(Node):
    """A model whose objects webhooks can watch. A model that is no longer tracked has no fields."""

    id: ID = computed_field(_model_id, "Name of the model, which is also its id.")
    name: str = strawberry.field(description="Name of the model. Example: `customer_order`.")

    @classmethod
    def of(cls, row: WatchableModel) -> Self:
        """Return the object of a model that has been read."""
        return cls(row=row, name=row.name)

    @classmethod
    def from_name(cls, name: str) -> Self:
        """Return the object of a model that has not been read."""
        return cls(row=None, name=name)

    @strawberry.field(description="Display name. In English if there is none in the requested language.")
    async def label(
        self,
        info: Info,
        locale: Annotated[str, strawberry.argument(description='Language, such as "en" or "ru".')] = "en",
    ) -> str:
        """Return the label in a language."""
        return (await self._watchable(info)).label(locale)

    @strawberry.field(description="Description of the model.")
    async def description(self, info: Info) -> str:
        """Return the description with which the model was tracked or declared."""
        return (await self._watchable(info)).description

    @strawberry.field(description="Fields that templates can use.")
    async def fields(self, info: Info) -> list[ModelField]:
        """List the fields, parents before their children."""
        fields = (await self._watchable(info)).fields
        return [ModelField(path=field.path, type=field.type, description=field.description) for field in fields]

    @strawberry.field(description="Object that a test-fire sends by default.")
    async def sample(self, info: Info) -> JSON:
        """Return the sample as JSON."""
        return JSON((await self._watchable(info)).sample)

    async def _watchable(self, info: Info) -> WatchableModel:
        """Return the model, read once if it is declared; a stand-in without fields if it is no longer tracked."""
        model: WatchableModel | None = self.row or model_service.find_tracked(self.name)
        if model is None:
            model = await info.context.loaders[dataloaders.declared_model].load(self.name)
        if model is None:
            model = WatchableModel(
                name=self.name,
                labels={"en": self.name},
                description="This model is no longer tracked.",
                fields=(),
                sample={},
            )
        return model


@input_type
class DeclareModelInput:
    """A model whose objects live in another program. Declaring it again updates it."""

    name: str = strawberry.field(
        description="Name that webhooks and changes refer to: at most 100 characters from a-z, 0-9 and _, starting "
        "with a letter. Must not be the name of a model that is tracked in code. Example: `spare_part`."
    )
    label: str = strawberry.field(description='Display name. Example: "Spare part".')
    description: str | None = optional_field("Description of the model.")
    json_schema: JSON = strawberry.field(
        description='JSON Schema (draft 2020-12) of the objects, with `"type": "object"`, at most 256 KiB. It defines '
        "the fields, and each published item is validated against it, formats included. `$ref` may only point to "
        "`$defs` of the same schema; patterns may have neither look-around nor back-references, and at most 6 MB when "
        "compiled, all together. "
        'Example: `{"type": "object", "properties": {"price": {"type": "number"}}, "required": ["price"]}`.'
    )
    sample: JSON = strawberry.field(
        description='Object that a test-fire sends by default. Must match the schema. Example: `{"price": 350.5}`.'
    )
    force: bool = strawberry.field(
        default=False,
        description="Whether to declare the model even if the schema removes fields that webhooks use in templates or "
        "conditions. If false, that is an error that names them.",
    )


@input_type
class ChangeInput:
    """A change of an object of a declared model."""

    model: str = strawberry.field(description="Name of the declared model. Example: `spare_part`.")
    action: Action = strawberry.field(description="Kind of change.")
    object_id: str = strawberry.field(
        description="Id of the object in your program, at most 255 characters, stored unchanged. Example: `4711`."
    )
    item: JSON = strawberry.field(
        description="The object after the change, or before it if DELETED, at most 256 KiB. Must match the model's "
        'schema. Templates receive it unchanged. Example: `{"price": 350.5}`.'
    )
    changed_fields: list[str] | None = optional_field(
        'Names of the fields that an update changed. For UPDATED only. Example: `["price"]`.'
    )
    idempotency_key: str | None = optional_field(
        "Text that identifies this change among all changes of its model, such as an id in your own log. At most 255 "
        "characters. Within 24 hours, the same change with the same key is recorded once. "
        "Example: `price-list-2026-01-31-4711`."
    )


@input_type
class PublishChangesInput:
    """Changes to publish, all or none."""

    changes: list[ChangeInput] = strawberry.field(
        description="Changes in the order in which they happened, at most 500. Several changes of one object are not "
        "merged."
    )


def _event_ids(change: RowObject) -> list[ID]:
    published: Published = change.row
    return [ID(encode(Prefix.EVENT, event_id)) for event_id in published.event_ids]


@object_type
class PublishedChange(RowObject):
    """The result for one published change."""

    object_id: str = attribute(PUBLISHED.object_id, "Id of the object, as sent.")
    event_ids: list[ID] = computed_field(
        _event_ids, describe_id("Ids of the events, one for each matching webhook", Prefix.EVENT)
    )
    duplicate: bool = attribute(
        PUBLISHED.duplicate,
        "Whether the change had been recorded before with its idempotency key. `eventIds` are those of that time.",
    )


@object_type
class DeclareModelPayload:
    """Result of declareModel."""

    model: WebhookModel | None = optional_field("The declared model.")
    errors: list[InputError] = errors_field()


@object_type
class PublishChangesPayload:
    """Result of publishChanges."""

    changes: list[PublishedChange] | None = optional_field("Result for each change, in the order of the input.")
    errors: list[InputError] = errors_field("Validation errors, at most 100. Empty on success.")


@strawberry.type
class WebhookModelQuery:
    """The query `webhookModels`."""

    @query(
        """
        query {
          webhookModels { name label(locale: "en") fields { path type description } sample }
        }
        """
    )
    async def webhook_models(self) -> list[WebhookModel] | None:
        """List all models that webhooks can watch, sorted by name."""
        return [WebhookModel.of(model) for model in await model_service.list_models()]


@strawberry.type
class WebhookModelMutation:
    """The mutations `declareModel` and `publishChanges`."""

    @mutation(
        """
        mutation {
          declareModel(input: {
            name: "spare_part"
            label: "Spare part"
            jsonSchema: { type: "object", properties: { price: { type: "number" } }, required: ["price"] }
            sample: { price: 350.5 }
          }) {
            model { name fields { path type } }
            errors { code field message }
          }
        }
        """
    )
    async def declare_model(
        self, input: Annotated[DeclareModelInput, strawberry.argument(description="The model.")]
    ) -> DeclareModelPayload | None:
        """Declare a model whose objects live in another program. A model of the same name is updated."""
        row = await declare_model(
            input.name, input.label, input.description, input.json_schema, input.sample, force=input.force
        )
        return DeclareModelPayload(model=WebhookModel.of(model_service.from_declared_row(row)))

    @mutation(
        """
        mutation {
          publishChanges(input: { changes: [{
            model: "spare_part"
            action: UPDATED
            objectId: "4711"
            item: { price: 349 }
            changedFields: ["price"]
            idempotencyKey: "price-list-2026-01-31-4711"
          }] }) {
            changes { objectId eventIds duplicate }
            errors { code field message }
          }
        }
        """
    )
    async def publish_changes(
        self, input: Annotated[PublishChangesInput, strawberry.argument(description="The changes.")]
    ) -> PublishChangesPayload | None:
        """Publish changes of declared models. All are recorded in one transaction, or none."""
        published = await publish_changes([_publication(change) for change in input.changes])
        return PublishChangesPayload(changes=[PublishedChange.of(result) for result in published])


def _publication(change: ChangeInput) -> Publication:
    return Publication(
        model=change.model,
        action=change.action,
        object_id=change.object_id,
        item=change.item,
        changed_fields=change.changed_fields,
        idempotency_key=change.idempotency_key,
    )
