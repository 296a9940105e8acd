"""The site: its settings, callback requests and leads."""

import datetime as dt
from typing import Annotated

import strawberry
from strawberry import ID, UNSET

from ringback.graphql_api.errors import InputError
from ringback.graphql_api.fields.arguments import Update, given, or_none, query_key
from ringback.graphql_api.fields.attribute_field import attribute, own_id
from ringback.graphql_api.fields.descriptions import like, optional
from ringback.graphql_api.fields.enums import LeadStatus
from ringback.graphql_api.fields.relay import After, Connection, First, Node, page
from ringback.graphql_api.fields.root_fields import mutation, query
from ringback.models import lead as leads
from ringback.models import site_settings as settings_service
from ringback.models.ids import Prefix

#: The id of the settings, of which there is one.
SITE_SETTINGS = "site_settings"


@strawberry.type(description="Somebody who asked to be called back.")
class Lead(Node):
    """A stored lead."""

    id: ID = own_id(Prefix.LEAD, like("lead"))
    name: str = attribute("row.name", "Name as entered in the form.")
    phone: str = attribute("row.phone", "Phone number as entered in the form.")
    status: LeadStatus = attribute("row.status", "How far it has come.")
    comment: str | None = attribute("row.comment", "What the manager noted.")
    created_at: dt.datetime = attribute("row.created_at", "When the callback was requested.")
    updated_at: dt.datetime = attribute("row.updated_at", "When it was last changed; give it as expectedUpdatedAt.")


@strawberry.type(description="What an administrator decides for the whole site.")
class SiteSettings(Node):
    """The stored settings."""

    id: ID = attribute(lambda _: SITE_SETTINGS, 'Always "site_settings": there is one.')
    track_leads: bool = attribute("row.track_leads", "Whether callback requests become leads.")
    updated_at: dt.datetime = attribute("row.updated_at", "When they were last changed.")


@strawberry.input(description="The callback form.")
class RequestCallbackInput:
    """What a visitor enters."""

    name: str = strawberry.field(description="Who wants to be called.")
    phone: str = strawberry.field(description="Where to call.")


@strawberry.input(description="Changes to a lead; what is left out stays as it is.")
class UpdateLeadInput(Update):
    """What may be changed."""

    id: ID = strawberry.field(description=like("lead"))
    name: str | None = optional("The name.", UNSET)
    phone: str | None = optional("The phone number.", UNSET)
    status: LeadStatus | None = optional("How far it has come.", UNSET)
    comment: str | None = optional("A remark. Null clears it.", UNSET)


@strawberry.input(description="Changes to the site's settings; what is left out stays as it is.")
class UpdateSiteSettingsInput:
    """What may be changed."""

    track_leads: bool | None = optional("Whether callback requests become leads.", UNSET)


@strawberry.type(description="The answer to requestCallback.")
class RequestCallbackPayload:
    """The form's answer."""

    accepted: bool = strawberry.field(
        default=False, description="Whether the form was filled in; it is always answered."
    )
    lead: Lead | None = optional("The new lead; null while trackLeads is off.")
    errors: list[InputError] = strawberry.field(default_factory=list, description="What to mend; empty on success.")


@strawberry.type(description="The answer to updateLead.")
class UpdateLeadPayload:
    """The lead, or errors."""

    lead: Lead | None = optional("The lead as it is now.")
    errors: list[InputError] = strawberry.field(default_factory=list, description="What to mend; empty on success.")


@strawberry.type(description="The answer to deleteLead.")
class DeleteLeadPayload:
    """The deleted lead's id, or errors."""

    deleted_id: ID | None = optional("The id of the lead that was deleted.")
    errors: list[InputError] = strawberry.field(default_factory=list, description="What to mend; empty on success.")


@strawberry.type(description="The answer to updateSiteSettings.")
class UpdateSiteSettingsPayload:
    """The settings, or errors."""

    site_settings: SiteSettings | None = optional("The settings as they are now.")
    errors: list[InputError] = strawberry.field(default_factory=list, description="What to mend; empty on success.")


LeadId = Annotated[ID, strawberry.argument(description=like("lead"))]


@strawberry.type
class LeadQuery:
    """Root fields of this slice."""

    @query(
        "A lead by its id; null when there is none.",
        """
        query {
          lead(id: "lead_01h455vb4pex5vsknk084sn02q") { name phone status comment }
        }
        """,
    )
    async def lead(self, id: LeadId) -> Lead | None:
        """One lead."""
        row = await leads.Lead.get_or_none(id=query_key(Prefix.LEAD, id))
        return Lead.of(row) if row else None

    @query(
        "The leads, newest first.",
        """
        query {
          leads(first: 20) { nodes { id name phone status } pageInfo { hasNextPage endCursor } }
        }
        """,
    )
    async def leads(self, first: First = 20, after: After = None) -> Connection[Lead] | None:
        """A page of leads."""
        return await page(leads.Lead.all(), first, after, Lead.of)

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
        return SiteSettings.of(await settings_service.SiteSettings.get(id=1))


@strawberry.type
class LeadMutation:
    """Root fields of this slice."""

    @mutation(
        "The site's callback form. It becomes a lead while trackLeads is on.",
        """
        mutation {
          requestCallback(input: {name: "Ada", phone: "+1 555 0100"}) {
            accepted
            lead { id }
            errors { field message }
          }
        }
        """,
    )
    async def request_callback(
        self, input: Annotated[RequestCallbackInput, strawberry.argument(description="The form.")]
    ) -> RequestCallbackPayload | None:
        """Take the form."""
        row = await leads.request_callback(input.name, input.phone)
        return RequestCallbackPayload(accepted=True, lead=Lead.of(row) if row else None)

    @mutation(
        "Change a lead.",
        """
        mutation {
          updateLead(input: {id: "lead_01h455vb4pex5vsknk084sn02q", status: DONE}) {
            lead { status updatedAt }
            errors { field message }
          }
        }
        """,
    )
    async def update_lead(
        self, input: Annotated[UpdateLeadInput, strawberry.argument(description="What to change.")]
    ) -> UpdateLeadPayload | None:
        """Update."""
        row = await leads.update_lead(input.id, given(input), or_none(input.expected_updated_at))
        return UpdateLeadPayload(lead=Lead.of(row))

    @mutation(
        "Delete a lead.",
        """
        mutation {
          deleteLead(id: "lead_01h455vb4pex5vsknk084sn02q") { deletedId errors { message } }
        }
        """,
    )
    async def delete_lead(self, id: LeadId) -> DeleteLeadPayload | None:
        """Delete."""
        await leads.delete_lead(id)
        return DeleteLeadPayload(deleted_id=id)

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
            site_settings=SiteSettings.of(await settings_service.update_site_settings(given(input)))
        )
