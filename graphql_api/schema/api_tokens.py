"""Queries and mutations of API tokens, and the viewer."""

import datetime as dt
from typing import Annotated

import strawberry
from strawberry import ID

from ringback.graphql_api.context.request_context import Info
from ringback.graphql_api.fields.attribute_field import RowObject, attribute, computed_field, id_attribute, row_paths
from ringback.graphql_api.fields.core_schema import core_schema
from ringback.graphql_api.fields.descriptions import SUFFIX, describe_id, input_type, object_type, optional_field
from ringback.graphql_api.fields.enums import Role
from ringback.graphql_api.fields.input_errors import InputError, errors_field
from ringback.graphql_api.fields.relay import After, Connection, First, Node, read_page
from ringback.graphql_api.fields.root_fields import mutation, query
from ringback.models import api_token as rows
from ringback.models.ids import Prefix
from ringback.models.services import api_tokens as token_service

TOKEN = row_paths(rows.ApiToken)
TOKEN_ID = describe_id("Token id", Prefix.TOKEN)
TOKEN_NAME = "Display name, such as the name of the program that uses the token."
TOKEN_ROLE = "Role, which determines the permissions."


def _webhook_ids(_: RowObject) -> list[ID] | None:
    return None


@object_type
class ApiToken(Node):
    """A bearer token of the API."""

    id: ID = id_attribute(Prefix.TOKEN, TOKEN_ID)
    name: str = attribute(TOKEN.name, TOKEN_NAME)
    role: Role = attribute(TOKEN.role, TOKEN_ROLE)
    webhook_ids: list[ID] | None = computed_field(
        _webhook_ids, "Always null: every token is an ADMIN token and can access all webhooks."
    )
    created_at: dt.datetime = attribute(TOKEN.created_at, "Time when the token was created.")
    expires_at: dt.datetime | None = attribute(TOKEN.expires_at, "Time when the token expires. Null if never.")
    last_used_at: dt.datetime | None = attribute(
        TOKEN.last_used_at, "Time when the token was last used, to the minute. Null if never."
    )


@object_type
class Viewer:
    """The caller of this request."""

    token: ApiToken | None = strawberry.field(description="Token that the request was sent with.")

    @strawberry.field(description="Names of the root fields that the token permits.")
    def permissions(self, info: Info) -> list[str]:
        """Return the names of all root fields: every token is an ADMIN token."""
        schema = core_schema(info.schema)
        roots = (schema.query_type, schema.mutation_type, schema.subscription_type)
        return sorted(name for root in roots if root for name in root.fields)


@input_type
class CreateApiTokenInput:
    """A new API token."""

    name: str = strawberry.field(description=TOKEN_NAME)
    role: Role = strawberry.field(description=TOKEN_ROLE)
    webhook_ids: list[ID] | None = optional_field(
        f'Webhooks that the token is limited to. Must be null for an ADMIN token. Example: `["whk_{SUFFIX}"]`.'
    )
    expires_at: dt.datetime | None = optional_field(
        "Time when the token expires. Null means never. Example: `2027-01-01T00:00:00Z`."
    )


@object_type
class CreateApiTokenPayload:
    """Result of createApiToken."""

    secret: str | None = optional_field("Secret to send as the bearer token. It cannot be read again.")
    token: ApiToken | None = optional_field("The new token.")
    errors: list[InputError] = errors_field()


@object_type
class RevokeApiTokenPayload:
    """Result of revokeApiToken."""

    revoked_id: ID | None = optional_field("Id of the revoked token.")
    errors: list[InputError] = errors_field()


TokenId = Annotated[ID, strawberry.argument(description=TOKEN_ID)]


@strawberry.type
class ApiTokenQuery:
    """The queries `viewer` and `apiTokens`."""

    @query(
        """
        query {
          viewer { token { name role expiresAt } permissions }
        }
        """
    )
    def viewer(self, info: Info) -> Viewer | None:
        """Return the caller: its token and permissions."""
        return Viewer(token=ApiToken.of(info.context.viewer))

    @query(
        """
        query {
          apiTokens(first: 20) { nodes { id name role lastUsedAt } pageInfo { hasNextPage endCursor } }
        }
        """
    )
    async def api_tokens(self, first: First = 20, after: After = None) -> Connection[ApiToken] | None:
        """List the API tokens that are not revoked, newest first."""
        return await read_page(rows.ApiToken.filter(revoked_at=None), first, after, ApiToken.of)


@strawberry.type
class ApiTokenMutation:
    """The mutations `createApiToken` and `revokeApiToken`."""

    @mutation(
        """
        mutation {
          createApiToken(input: {name: "CI", role: ADMIN, expiresAt: "2027-01-01T00:00:00Z"}) {
            secret
            token { id }
            errors { field message }
          }
        }
        """
    )
    async def create_api_token(
        self, input: Annotated[CreateApiTokenInput, strawberry.argument(description="The new token.")]
    ) -> CreateApiTokenPayload | None:
        """Create an API token. Only this result contains its secret."""
        row, secret = await token_service.create_token(
            input.name, input.role, webhook_ids=input.webhook_ids, expires_at=input.expires_at
        )
        return CreateApiTokenPayload(secret=secret, token=ApiToken.of(row))

    @mutation(
        """
        mutation {
          revokeApiToken(id: "tok_01h455vb4pex5vsknk084sn02q") { revokedId errors { message } }
        }
        """
    )
    async def revoke_api_token(self, info: Info, id: TokenId) -> RevokeApiTokenPayload | None:
        """Revoke an API token. Requests that use it are rejected."""
        await token_service.revoke_token(id)
        info.context.services.authenticator.forget()
        return RevokeApiTokenPayload(revoked_id=id)
