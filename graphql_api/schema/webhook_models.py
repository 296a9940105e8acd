"""The catalog: what may be watched, which fields a template may use, and the models of other programs.

A model is named, not numbered, and its name costs nothing. What else is asked of it comes from this process for models
that are tracked in code, and through a loader for declared ones, which the database knows.
"""

from typing import Annotated, Self

import strawberry
from strawberry import ID
from strawberry.scalars import JSON

from ringback.graphql_api.context import dataloaders
from ringback.graphql_api.context.request_context import Info
from ringback.graphql_api.fields.attribute_field import RowObject, attribute
from ringback.graphql_api.fields.descriptions import id_description, optional_field
from ringback.graphql_api.fields.enums import Action
from ringback.graphql_api.fields.input_errors import InputError
from ringback.graphql_api.fields.relay import Node
from ringback.graphql_api.fields.root_fields import mutation, query
from ringback.models.ids import Prefix, encode
from ringback.models.services import webhook_models as model_service
from ringback.models.services.declared_models import declare_model
from ringback.models.services.publishing import Publication, publish_changes
from ringback.models.services.webhook_models import WatchableModel

NO_LONGER_TRACKED = "This model is no longer tracked."


@strawberry.type(description="A field that a template may use.")
class ModelField:
    """One FieldInfo."""

    path: str = strawberry.field(
        description="The path as written in Liquid, such as `item.customer.name`; `[]` stands for each "
        "element of a list, and a last `*` for fields of any name."
    )
    type: str = strawberry.field(
        description="string, integer, float, decimal, boolean, datetime, date, time, id, object, list; json when "
        "it is not known what it holds."
    )
    description: str = strawberry.field(description="What it holds.")


@strawberry.type(description="A model whose objects may be watched by webhooks.")
class WebhookModel(Node):
    """A model that may be watched, by name; one that may be no more has no fields."""

    id: ID = attribute("name", "The model's name: models are named, not numbered.")
    name: str = strawberry.field(description="What webhooks name it by, such as `customer_order`.")

    @classmethod
    def of(cls, row: WatchableModel) -> Self:
        """The GraphQL object of a model that is at hand."""
        return cls(row=row, name=row.name)

    @classmethod
    def named(cls, name: str) -> Self:
        """The GraphQL object of a model, by its name alone."""
        return cls(row=None, name=name)

    @strawberry.field(description="Its name for people.")
    async def label(
        self,
        info: Info,
        locale: Annotated[str, strawberry.argument(description='The language, such as "en" or "ru".')] = "en",
    ) -> str:
        """The label in a language, English where there is none."""
        return (await self._watchable(info)).label(locale)

    @strawberry.field(description="What it is.")
    async def description(self, info: Info) -> str:
        """The description of the model's declaration."""
        return (await self._watchable(info)).description

    @strawberry.field(description="The fields that a template may use.")
    async def fields(self, info: Info) -> list[ModelField]:
        """Every path, parents before their parts."""
        fields = (await self._watchable(info)).fields
        return [ModelField(path=i.path, type=i.type, description=i.description) for i in fields]

    @strawberry.field(description="The object that a test-fire sends by default.")
    async def sample(self, info: Info) -> JSON:
        """The sample, as JSON."""
        return JSON((await self._watchable(info)).sample)

    async def _watchable(self, info: Info) -> WatchableModel:
        known: WatchableModel | None = self.row or model_service.list_tracked(self.name)
        found = known or await info.context.loaders[dataloaders.declared_model].load(self.name)
        return found or WatchableModel(self.name, {"en": self.name}, NO_LONGER_TRACKED, fields=(), sample={})


@strawberry.input(description="A model whose objects live in another program. Declaring it again updates it.")
class DeclareModelInput:
    """A declaration."""

    name: str = strawberry.field(
        description="What webhooks and changes name it by, such as `spare_part`: at most 100 of a-z, 0-9 and _, a "
        "letter first. Models that are tracked in code cannot be declared."
    )
    label: str = strawberry.field(description='Its name for people, such as "Spare part".')
    description: str | None = optional_field("What it is.")
    json_schema: JSON = strawberry.field(
        description='The JSON Schema (draft 2020-12) of its objects, of `"type": "object"`: '
        '`{"type": "object", "properties": {"price": {"type": "number"}}, "required": ["price"]}`. It gives the '
        "fields and checks every item, formats included. References lead to `$defs` of the same schema; patterns "
        "have neither look-around nor back-references. At most 256 KiB."
    )
    sample: JSON = strawberry.field(
        description='The object that a test-fire sends by default; it must fit the schema: `{"price": 350.5}`.'
    )
    force: bool = strawberry.field(
        default=False,
        description="Declare it even when the schema takes away fields that webhooks use in templates or conditions; "
        "without it, that is an error which names them.",
    )


@strawberry.input(description="A change of an object of a declared model.")
class ChangeInput:
    """A change to publish."""

    model: str = strawberry.field(description="The declared model's name, such as `spare_part`.")
    action: Action = strawberry.field(description="What happened to the object.")
    object_id: str = strawberry.field(
        description="The object's id in your program, such as `4711`; kept to the letter, at most 255 characters."
    )
    item: JSON = strawberry.field(
        description='The object as it is now (as it was, when it is DELETED), such as `{"price": 350.5}`. It must fit '
        "the model's schema and have at most 256 KiB; templates get what was sent."
    )
    changed_fields: list[str] | None = optional_field(
        'Which fields of the item an update changed, such as `["price"]`; for UPDATED only.'
    )
    idempotency_key: str | None = optional_field(
        "A text of yours that tells this change from every other one of its model, such as an id in your "
        "own log; at most 255 characters. Within 24 hours, the same change under the same key is recorded once."
    )


@strawberry.input(description="Changes to publish, all or nothing.")
class PublishChangesInput:
    """Changes of declared models."""

    changes: list[ChangeInput] = strawberry.field(
        description="At most 500, in the order in which they happened. Several changes of one object are told one by "
        "one."
    )


@strawberry.type(description="What became of one published change.")
class PublishedChange(RowObject):
    """One answer of publishChanges; `row` is a Published."""

    object_id: str = attribute("row.object_id", "The object's id, as it was sent.")
    event_ids: list[ID] = attribute(
        lambda change: [encode(Prefix.EVENT, key) for key in change.row.event_ids],
        "The events of the change: one for each webhook that it fired, and none where none matched. "
        + id_description("evt"),
    )
    duplicate: bool = attribute(
        "row.duplicate",
        "Whether the change had been recorded before under its idempotency key; these are its events.",
    )


@strawberry.type(description="The answer to declareModel.")
class DeclareModelPayload:
    """The declared model, or errors."""

    model: WebhookModel | None = optional_field("The model as it is now.")
    errors: list[InputError] = strawberry.field(default_factory=list, description="What to mend; empty on success.")


@strawberry.type(description="The answer to publishChanges.")
class PublishChangesPayload:
    """What became of the changes, or errors."""

    changes: list[PublishedChange] | None = optional_field("What became of each change, in the order of the input.")
    errors: list[InputError] = strawberry.field(
        default_factory=list, description="What to mend, at most 100; empty on success."
    )


@strawberry.type
class CatalogQuery:
    """Root fields of this slice."""

    @query(
        "Every model that may be watched, by name.",
        """
        query {
          webhookModels { name label(locale: "en") fields { path type description } sample }
        }
        """,
    )
    async def webhook_models(self) -> list[WebhookModel] | None:
        """The models that are tracked in code, and the declared ones."""
        return [WebhookModel.of(watchable) for watchable in await model_service.all_models()]


@strawberry.type
class CatalogMutation:
    """Root fields of this slice."""

    @mutation(
        "Declare a model whose objects live in another program, or declare it anew.",
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
        """,
    )
    async def declare_model(
        self, input: Annotated[DeclareModelInput, strawberry.argument(description="The model.")]
    ) -> DeclareModelPayload | None:
        """Declare."""
        row = await declare_model(**vars(input))
        return DeclareModelPayload(model=WebhookModel.of(model_service.list_declared(row)))

    @mutation(
        "Publish changes of declared models: all are recorded, in one transaction, or none is.",
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
        """,
    )
    async def publish_changes(
        self, input: Annotated[PublishChangesInput, strawberry.argument(description="The changes.")]
    ) -> PublishChangesPayload | None:
        """Publish."""
        published = await publish_changes([Publication(**vars(change)) for change in input.changes])
        return PublishChangesPayload(changes=[PublishedChange.of(one) for one in published])
