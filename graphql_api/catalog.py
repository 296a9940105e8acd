"""The catalog: what may be watched, and which fields a template may use."""

from typing import Annotated

import strawberry
from strawberry.scalars import JSON

from ringback.graphql_api.descriptions import described
from ringback.graphql_api.relay import Node
from ringback.models import snapshot
from ringback.models.registry import registry


@strawberry.type(description="A field that a template may use.")
class ModelField:
    """One FieldInfo."""

    path: str = strawberry.field(
        description="The path as written in Liquid, such as `item.customer.name`; `[]` stands for each "
        "element of a list."
    )
    type: str = strawberry.field(description="string, integer, decimal, boolean, datetime, id, object, list, json, …")
    description: str = strawberry.field(description="What it holds.")


@strawberry.type(description="A model whose objects may be watched by webhooks.")
class WebhookModel(Node):
    """A tracked model, by name; one that is no longer tracked has no fields."""

    id: strawberry.ID = strawberry.field(description="The model's name: models are named, not numbered.")
    name: str = strawberry.field(description="What webhooks name it by, such as `customer_order`.")

    @strawberry.field(description="Its name for people.")
    def label(
        self, locale: Annotated[str, strawberry.argument(description='The language, such as "en" or "ru".')] = "en"
    ) -> str:
        """The label in a language, English where there is none."""
        model = registry.get(self.name)
        return registry.tracking(self.name).label(locale) if model else self.name

    @strawberry.field(description="What it is.")
    def description(self) -> str:
        """The description of the model's declaration."""
        return (
            registry.tracking(self.name).description if registry.get(self.name) else "This model is no longer tracked."
        )

    @strawberry.field(description="The fields that a template may use.")
    def fields(self) -> list[ModelField]:
        """Every path, parents before their parts."""
        model = registry.get(self.name)
        infos = snapshot.field_infos(model) if model else []
        return [ModelField(path=i.path, type=i.type, description=i.description) for i in infos]

    @strawberry.field(description="The object that a test-fire sends by default.")
    def sample(self) -> JSON:
        """The sample, as JSON."""
        model = registry.get(self.name)
        return JSON(snapshot.sample(model) if model else {})


def webhook_model(name: str) -> WebhookModel:
    """The catalog entry of a model."""
    return WebhookModel(id=strawberry.ID(name), name=name)


async def find_model(name: str) -> WebhookModel | None:
    """The catalog entry of a model that may be watched; None when there is none of that name."""
    return webhook_model(name) if registry.get(name) else None


@strawberry.type
class CatalogQuery:
    """Root fields of this slice."""

    @strawberry.field(
        description=described(
            "Every model that may be watched, by name.",
            """
            query {
              webhookModels { name label(locale: "en") fields { path type description } sample }
            }
            """,
        )
    )
    def webhook_models(self) -> list[WebhookModel] | None:
        """The tracked models."""
        return [webhook_model(name) for name in registry.names()]
