"""The query and the mutation of the site's settings."""

import datetime as dt
from typing import Annotated

import strawberry
from strawberry import ID, UNSET

from ringback.graphql_api.fields.arguments import given_fields
from ringback.graphql_api.fields.attribute_field import RowObject, attribute, computed_field, row_paths
from ringback.graphql_api.fields.descriptions import input_type, object_type, optional_field
from ringback.graphql_api.fields.input_errors import InputError, errors_field
from ringback.graphql_api.fields.relay import Node
from ringback.graphql_api.fields.root_fields import mutation, query
from ringback.models import site_settings as rows
from ringback.models.services import site_settings as settings_service

#: Id of the only settings object.
SITE_SETTINGS = "site_settings"
TRACK_LEADS = "Whether callback requests become leads."

SETTINGS = row_paths(rows.SiteSettings)


def _id(_: RowObject) -> ID:
    return ID(SITE_SETTINGS)


@object_type
class SiteSettings(Node):
    """Settings of the whole site. There is one such object."""

    id: ID = computed_field(_id, 'Always "site_settings".')
    track_leads: bool = attribute(SETTINGS.track_leads, TRACK_LEADS)
    updated_at: dt.datetime = attribute(SETTINGS.updated_at, "Time when the settings were last changed.")


@input_type
class UpdateSiteSettingsInput:
    """Changes to the site's settings. Omitted fields keep their values."""

    track_leads: bool | None = optional_field(TRACK_LEADS, UNSET)


@object_type
class UpdateSiteSettingsPayload:
    """Result of updateSiteSettings."""

    site_settings: SiteSettings | None = optional_field("The updated settings.")
    errors: list[InputError] = errors_field()


@strawberry.type
class SiteSettingsQuery:
    """The query `siteSettings`."""

    @query(
        """
        query {
          siteSettings { trackLeads updatedAt }
        }
        """
    )
    async def site_settings(self) -> SiteSettings | None:
        """Return the site's settings."""
        return SiteSettings.of(await rows.SiteSettings.get(id=1))


@strawberry.type
class SiteSettingsMutation:
    """The mutation `updateSiteSettings`."""

    @mutation(
        """
        mutation {
          updateSiteSettings(input: {trackLeads: true}) { siteSettings { trackLeads } errors { message } }
        }
        """
    )
    async def update_site_settings(
        self, input: Annotated[UpdateSiteSettingsInput, strawberry.argument(description="The changes.")]
    ) -> UpdateSiteSettingsPayload | None:
        """Update the site's settings."""
        row = await settings_service.update_site_settings(given_fields(input))
        return UpdateSiteSettingsPayload(site_settings=SiteSettings.of(row))
