"""Access: who asks, and the API tokens."""

import datetime as dt
from typing import Annotated

import strawberry
from strawberry import ID

from ringback.graphql_api.context.request_context import Info
from ringback.graphql_api.fields.attribute_field import attribute, id_attribute
from ringback.graphql_api.fields.core_schema import core_schema
from ringback.graphql_api.fields.descriptions import SUFFIX, id_description, optional_field
from ringback.graphql_api.fields.enums import Role
from ringback.graphql_api.fields.input_errors import InputError
from ringback.graphql_api.fields.relay import After, Connection, First, Node, page
from ringback.graphql_api.fields.root_fields import mutation, query
from ringback.models.api_token import ApiToken as TokenRow
from ringback.models.ids import Prefix
from ringback.models.services import api_tokens as token_service


@strawberry.type(description="A bearer token of the API.")
class ApiToken(Node):
    """A stored token."""

    id: ID = id_attribute(Prefix.TOKEN, id_description("tok"))
    name: str = attribute("row.name", "Who or what it is for.")
    role: Role = attribute("row.role", "What it may do.")
    webhook_ids: list[ID] | None = attribute(lambda _: None, "The webhooks it is limited to; null means all.")
    created_at: dt.datetime = attribute("row.created_at", "When it was created.")
    expires_at: dt.datetime | None = attribute("row.expires_at", "When it expires; null means never.")
    last_used_at: dt.datetime | None = attribute("row.last_used_at", "When it was last used, to the minute.")


@strawberry.type(description="Who asks.")
class Viewer:
    """The bearer of this request's token."""

    token: ApiToken | None = strawberry.field(description="The token that was sent.")

    @strawberry.field(description="The root fields that this token may use, by name.")
    def permissions(self, info: Info) -> list[str]:
        """An ADMIN may use all."""
        schema = core_schema(info.schema)
        roots = (schema.query_type, schema.mutation_type, schema.subscription_type)
        return sorted(name for root in roots if root for name in root.fields)


@strawberry.input(description="A new API token.")
class CreateApiTokenInput:
    """All that a token is."""

    name: str = strawberry.field(description="Who or what it is for.")
    role: Role = strawberry.field(description="What it may do.")
    webhook_ids: list[ID] | None = optional_field(
        f'Webhooks to limit it to, such as `["whk_{SUFFIX}"]`; not for ADMIN tokens.'
    )
    expires_at: dt.datetime | None = optional_field(
        "When it expires, such as `2027-01-01T00:00:00Z`; null means never."
    )


@strawberry.type(description="The answer to createApiToken.")
class CreateApiTokenPayload:
    """The new token, or errors."""

    secret: str | None = optional_field("What to send as Bearer. It is shown this once.")
    token: ApiToken | None = optional_field("The new token.")
    errors: list[InputError] = strawberry.field(default_factory=list, description="What to mend; empty on success.")


@strawberry.type(description="The answer to revokeApiToken.")
class RevokeApiTokenPayload:
    """The revoked token's id, or errors."""

    revoked_id: ID | None = optional_field("The id of the token that was revoked.")
    errors: list[InputError] = strawberry.field(default_factory=list, description="What to mend; empty on success.")


@strawberry.type
class AccessQuery:
    """Root fields of this slice."""

    @query(
        "Who asks: the token that was sent, and what it may do.",
        """
        query {
          viewer { token { name role expiresAt } permissions }
        }
        """,
    )
    def viewer(self, info: Info) -> Viewer | None:
        """The bearer."""
        return Viewer(token=ApiToken.of(info.context.viewer))

    @query(
        "The API tokens that were not revoked, newest first.",
        """
        query {
          apiTokens(first: 20) { nodes { id name role lastUsedAt } pageInfo { hasNextPage endCursor } }
        }
        """,
    )
    async def api_tokens(self, first: First = 20, after: After = None) -> Connection[ApiToken] | None:
        """A page of tokens."""
        return await page(TokenRow.filter(revoked_at=None), first, after, ApiToken.of)


@strawberry.type
class AccessMutation:
    """Root fields of this slice."""

    @mutation(
        "Create an API token. The answer alone shows its secret.",
        """
        mutation {
          createApiToken(input: {name: "CI", role: ADMIN, expiresAt: "2027-01-01T00:00:00Z"}) {
            secret
            token { id }
            errors { field message }
          }
        }
        """,
    )
    async def create_api_token(
        self, input: Annotated[CreateApiTokenInput, strawberry.argument(description="The new token.")]
    ) -> CreateApiTokenPayload | None:
        """Create."""
        row, secret = await token_service.create_token(**vars(input))
        return CreateApiTokenPayload(secret=secret, token=ApiToken.of(row))

    @mutation(
        "Revoke an API token: requests that bear it are refused from now on.",
        """
        mutation {
          revokeApiToken(id: "tok_01h455vb4pex5vsknk084sn02q") { revokedId errors { message } }
        }
        """,
    )
    async def revoke_api_token(
        self, info: Info, id: Annotated[ID, strawberry.argument(description=id_description("tok"))]
    ) -> RevokeApiTokenPayload | None:
        """Revoke."""
        await token_service.revoke_token(id)
        info.context.services.bearers.forget()
        return RevokeApiTokenPayload(revoked_id=id)
