"""Settings of the site."""

import datetime as dt
from typing import Annotated

import strawberry
from strawberry import ID, UNSET

from ringback.graphql_api.fields.arguments import given_fields
from ringback.graphql_api.fields.attribute_field import attribute
from ringback.graphql_api.fields.descriptions import optional_field
from ringback.graphql_api.fields.input_errors import InputError
from ringback.graphql_api.fields.relay import Node
from ringback.graphql_api.fields.root_fields import mutation, query
from ringback.models import site_settings as rows
from ringback.models.services import site_settings as settings_service

#: The id of the settings, of which there is one.
SITE_SETTINGS = "site_settings"


@strawberry.type(description="What an administrator decides for the whole site.")
class SiteSettings(Node):
    """The stored settings."""

    id: ID = attribute(lambda _: SITE_SETTINGS, 'Always "site_settings": there is one.')
    track_leads: bool = attribute("row.track_leads", "Whether callback requests become leads.")
    updated_at: dt.datetime = attribute("row.updated_at", "When they were last changed.")


@strawberry.input(description="Changes to the site's settings; what is left out stays as it is.")
class UpdateSiteSettingsInput:
    """What may be changed."""

    track_leads: bool | None = optional_field("Whether callback requests become leads.", UNSET)


@strawberry.type(description="The answer to updateSiteSettings.")
class UpdateSiteSettingsPayload:
    """The settings, or errors."""

    site_settings: SiteSettings | None = optional_field("The settings as they are now.")
    errors: list[InputError] = strawberry.field(default_factory=list, description="What to mend; empty on success.")


@strawberry.type
class SiteSettingsQuery:
    """Root fields of this slice."""

    @query(
        "The site's settings.",
        """
        query {
          siteSettings { trackLeads updatedAt }
        }
        """,
    )
    async def site_settings(self) -> SiteSettings | None:
        """The one row."""
        return SiteSettings.of(await rows.SiteSettings.get(id=1))


@strawberry.type
class SiteSettingsMutation:
    """Root fields of this slice."""

    @mutation(
        "Change the site's settings.",
        """
        mutation {
          updateSiteSettings(input: {trackLeads: true}) { siteSettings { trackLeads } errors { message } }
        }
        """,
    )
    async def update_site_settings(
        self, input: Annotated[UpdateSiteSettingsInput, strawberry.argument(description="What to change.")]
    ) -> UpdateSiteSettingsPayload | None:
        """Update."""
        return UpdateSiteSettingsPayload(
            site_settings=SiteSettings.of(await settings_service.update_site_settings(given_fields(input)))
        )
