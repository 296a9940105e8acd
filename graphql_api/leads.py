"""The site: its settings, callback requests and leads."""

import datetime as dt
from typing import Annotated, Self

import strawberry
from strawberry import ID, UNSET

from ringback.graphql_api.descriptions import described, like
from ringback.graphql_api.enums import LeadStatus
from ringback.graphql_api.errors import InputError, answered
from ringback.graphql_api.inputs import given, or_none, query_key
from ringback.graphql_api.relay import After, Connection, First, Node, page
from ringback.models import lead as leads
from ringback.models import site
from ringback.models.ids import Prefix, encode

#: The id of the settings, of which there is one.
SITE_SETTINGS = "site_settings"


@strawberry.type(description="Somebody who asked to be called back.")
class Lead(Node):
    """A stored lead."""

    id: ID = strawberry.field(description=like("lead"))
    name: str = strawberry.field(description="Name as entered in the form.")
    phone: str = strawberry.field(description="Phone number as entered in the form.")
    status: LeadStatus = strawberry.field(description="How far it has come.")
    comment: str | None = strawberry.field(description="What the manager noted.")
    created_at: dt.datetime = strawberry.field(description="When the callback was requested.")
    updated_at: dt.datetime = strawberry.field(description="When it was last changed; give it as expectedUpdatedAt.")

    @classmethod
    def of(cls, row: leads.Lead) -> Self:
        """The GraphQL object of a row."""
        return cls(
            id=ID(encode(Prefix.LEAD, row.id)),
            name=row.name,
            phone=row.phone,
            status=row.status,
            comment=row.comment,
            created_at=row.created_at,
            updated_at=row.updated_at,
        )


@strawberry.type(description="What an administrator decides for the whole site.")
class SiteSettings(Node):
    """The stored settings."""

    id: ID = strawberry.field(description='Always "site_settings": there is one.')
    track_leads: bool = strawberry.field(description="Whether callback requests become leads.")
    updated_at: dt.datetime = strawberry.field(description="When they were last changed.")

    @classmethod
    def of(cls, row: site.SiteSettings) -> Self:
        """The GraphQL object of the row."""
        return cls(id=ID(SITE_SETTINGS), track_leads=row.track_leads, updated_at=row.updated_at)


@strawberry.input(description="The callback form.")
class RequestCallbackInput:
    """What a visitor enters."""

    name: str = strawberry.field(description="Who wants to be called.")
    phone: str = strawberry.field(description="Where to call.")


@strawberry.input(description="Changes to a lead; what is left out stays as it is.")
class UpdateLeadInput:
    """What may be changed."""

    id: ID = strawberry.field(description=like("lead"))
    expected_updated_at: dt.datetime | None = strawberry.field(
        default=UNSET, description="The `updatedAt` that you have seen; a CONFLICT when it was changed since."
    )
    name: str | None = strawberry.field(default=UNSET, description="The name.")
    phone: str | None = strawberry.field(default=UNSET, description="The phone number.")
    status: LeadStatus | None = strawberry.field(default=UNSET, description="How far it has come.")
    comment: str | None = strawberry.field(default=UNSET, description="A remark. Null clears it.")


@strawberry.input(description="Changes to the site's settings; what is left out stays as it is.")
class UpdateSiteSettingsInput:
    """What may be changed."""

    track_leads: bool | None = strawberry.field(default=UNSET, description="Whether callback requests become leads.")


@strawberry.type(description="The answer to requestCallback.")
class RequestCallbackPayload:
    """The form's answer."""

    accepted: bool = strawberry.field(
        default=False, description="Whether the form was filled in; it is always answered."
    )
    lead: Lead | None = strawberry.field(default=None, description="The new lead; null while trackLeads is off.")
    errors: list[InputError] = strawberry.field(default_factory=list, description="What to mend; empty on success.")


@strawberry.type(description="The answer to updateLead.")
class UpdateLeadPayload:
    """The lead, or errors."""

    lead: Lead | None = strawberry.field(default=None, description="The lead as it is now.")
    errors: list[InputError] = strawberry.field(default_factory=list, description="What to mend; empty on success.")


@strawberry.type(description="The answer to deleteLead.")
class DeleteLeadPayload:
    """The deleted lead's id, or errors."""

    deleted_id: ID | None = strawberry.field(default=None, description="The id of the lead that was deleted.")
    errors: list[InputError] = strawberry.field(default_factory=list, description="What to mend; empty on success.")


@strawberry.type(description="The answer to updateSiteSettings.")
class UpdateSiteSettingsPayload:
    """The settings, or errors."""

    site_settings: SiteSettings | None = strawberry.field(default=None, description="The settings as they are now.")
    errors: list[InputError] = strawberry.field(default_factory=list, description="What to mend; empty on success.")


LeadId = Annotated[ID, strawberry.argument(description=like("lead"))]


@strawberry.type
class LeadQuery:
    """Root fields of this slice."""

    @strawberry.field(
        description=described(
            "A lead by its id; null when there is none.",
            """
            query {
              lead(id: "lead_01h455vb4pex5vsknk084sn02q") { name phone status comment }
            }
            """,
        )
    )
    async def lead(self, id: LeadId) -> Lead | None:
        """One lead."""
        row = await leads.Lead.get_or_none(id=query_key(Prefix.LEAD, id))
        return Lead.of(row) if row else None

    @strawberry.field(
        description=described(
            "The leads, newest first.",
            """
            query {
              leads(first: 20) { nodes { id name phone status } pageInfo { hasNextPage endCursor } }
            }
            """,
        )
    )
    async def leads(self, first: First = 20, after: After = None) -> Connection[Lead] | None:
        """A page of leads."""
        return await page(leads.Lead.all(), first, after, Lead.of)

    @strawberry.field(
        description=described(
            "The site's settings.",
            """
            query {
              siteSettings { trackLeads updatedAt }
            }
            """,
        )
    )
    async def site_settings(self) -> SiteSettings | None:
        """The one row."""
        return SiteSettings.of(await site.SiteSettings.get(id=1))


@strawberry.type
class LeadMutation:
    """Root fields of this slice."""

    @strawberry.mutation(
        description=described(
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
    )
    async def request_callback(
        self, input: Annotated[RequestCallbackInput, strawberry.argument(description="The form.")]
    ) -> RequestCallbackPayload | None:
        """Take the form."""

        async def work() -> RequestCallbackPayload:
            row = await leads.request_callback(input.name, input.phone)
            return RequestCallbackPayload(accepted=True, lead=Lead.of(row) if row else None)

        return await answered(RequestCallbackPayload, work())

    @strawberry.mutation(
        description=described(
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
    )
    async def update_lead(
        self, input: Annotated[UpdateLeadInput, strawberry.argument(description="What to change.")]
    ) -> UpdateLeadPayload | None:
        """Update."""

        async def work() -> UpdateLeadPayload:
            row = await leads.update_lead(input.id, given(input), or_none(input.expected_updated_at))
            return UpdateLeadPayload(lead=Lead.of(row))

        return await answered(UpdateLeadPayload, work())

    @strawberry.mutation(
        description=described(
            "Delete a lead.",
            """
            mutation {
              deleteLead(id: "lead_01h455vb4pex5vsknk084sn02q") { deletedId errors { message } }
            }
            """,
        )
    )
    async def delete_lead(self, id: LeadId) -> DeleteLeadPayload | None:
        """Delete."""

        async def work() -> DeleteLeadPayload:
            await leads.delete_lead(id)
            return DeleteLeadPayload(deleted_id=id)

        return await answered(DeleteLeadPayload, work(), prefix="")

    @strawberry.mutation(
        description=described(
            "Change the site's settings.",
            """
            mutation {
              updateSiteSettings(input: {trackLeads: true}) { siteSettings { trackLeads } errors { message } }
            }
            """,
        )
    )
    async def update_site_settings(
        self, input: Annotated[UpdateSiteSettingsInput, strawberry.argument(description="What to change.")]
    ) -> UpdateSiteSettingsPayload | None:
        """Update."""

        async def work() -> UpdateSiteSettingsPayload:
            return UpdateSiteSettingsPayload(
                site_settings=SiteSettings.of(await site.update_site_settings(given(input)))
            )

        return await answered(UpdateSiteSettingsPayload, work())
