"""Leads and callback requests."""

import datetime as dt
from typing import Annotated

import strawberry
from strawberry import ID, UNSET

from ringback.graphql_api.fields.arguments import Update, given_fields, or_none, parse_query_id
from ringback.graphql_api.fields.attribute_field import attribute, id_attribute
from ringback.graphql_api.fields.descriptions import id_description, optional_field
from ringback.graphql_api.fields.enums import LeadStatus
from ringback.graphql_api.fields.input_errors import InputError
from ringback.graphql_api.fields.relay import After, Connection, First, Node, page
from ringback.graphql_api.fields.root_fields import mutation, query
from ringback.models import lead as rows
from ringback.models.ids import Prefix
from ringback.models.services import leads


@strawberry.type(description="Somebody who asked to be called back.")
class Lead(Node):
    """A stored lead."""

    id: ID = id_attribute(Prefix.LEAD, id_description("lead"))
    name: str = attribute("row.name", "Name as entered in the form.")
    phone: str = attribute("row.phone", "Phone number as entered in the form.")
    status: LeadStatus = attribute("row.status", "How far it has come.")
    comment: str | None = attribute("row.comment", "What the manager noted.")
    created_at: dt.datetime = attribute("row.created_at", "When the callback was requested.")
    updated_at: dt.datetime = attribute("row.updated_at", "When it was last changed; give it as expectedUpdatedAt.")


@strawberry.input(description="The callback form.")
class RequestCallbackInput:
    """What a visitor enters."""

    name: str = strawberry.field(description="Who wants to be called.")
    phone: str = strawberry.field(description="Where to call.")


@strawberry.input(description="Changes to a lead; what is left out stays as it is.")
class UpdateLeadInput(Update):
    """What may be changed."""

    id: ID = strawberry.field(description=id_description("lead"))
    name: str | None = optional_field("The name.", UNSET)
    phone: str | None = optional_field("The phone number.", UNSET)
    status: LeadStatus | None = optional_field("How far it has come.", UNSET)
    comment: str | None = optional_field("A remark. Null clears it.", UNSET)


@strawberry.type(description="The answer to requestCallback.")
class RequestCallbackPayload:
    """The form's answer."""

    accepted: bool = strawberry.field(
        default=False, description="Whether the form was filled in; it is always answered."
    )
    lead: Lead | None = optional_field("The new lead; null while trackLeads is off.")
    errors: list[InputError] = strawberry.field(default_factory=list, description="What to mend; empty on success.")


@strawberry.type(description="The answer to updateLead.")
class UpdateLeadPayload:
    """The lead, or errors."""

    lead: Lead | None = optional_field("The lead as it is now.")
    errors: list[InputError] = strawberry.field(default_factory=list, description="What to mend; empty on success.")


@strawberry.type(description="The answer to deleteLead.")
class DeleteLeadPayload:
    """The deleted lead's id, or errors."""

    deleted_id: ID | None = optional_field("The id of the lead that was deleted.")
    errors: list[InputError] = strawberry.field(default_factory=list, description="What to mend; empty on success.")


LeadId = Annotated[ID, strawberry.argument(description=id_description("lead"))]


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
        row = await rows.Lead.get_or_none(id=parse_query_id(Prefix.LEAD, id))
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
        return await page(rows.Lead.all(), first, after, Lead.of)


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
        row = await leads.update_lead(input.id, given_fields(input), or_none(input.expected_updated_at))
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
