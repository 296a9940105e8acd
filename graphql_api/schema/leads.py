"""Queries and mutations of leads, and the callback form."""

import datetime as dt
from typing import Annotated

import strawberry
from strawberry import ID, UNSET

from ringback.graphql_api.fields.arguments import Update, given_fields, or_none, parse_query_id
from ringback.graphql_api.fields.attribute_field import attribute, id_attribute, row_paths
from ringback.graphql_api.fields.descriptions import describe_id, input_type, object_type, optional_field
from ringback.graphql_api.fields.enums import LeadStatus
from ringback.graphql_api.fields.input_errors import InputError, errors_field
from ringback.graphql_api.fields.relay import After, Connection, First, Node, read_page
from ringback.graphql_api.fields.root_fields import mutation, query
from ringback.models import lead as rows
from ringback.models.ids import Prefix
from ringback.models.services import leads

LEAD = row_paths(rows.Lead)
LEAD_ID = describe_id("Lead id", Prefix.LEAD)


@object_type
class Lead(Node):
    """A person who asked to be called back."""

    id: ID = id_attribute(Prefix.LEAD, LEAD_ID)
    name: str = attribute(LEAD.name, "Name of the person.")
    phone: str = attribute(LEAD.phone, "Phone number.")
    status: LeadStatus = attribute(LEAD.status, "Progress of the lead.")
    comment: str | None = attribute(LEAD.comment, "Comment of a manager. Null if there is none.")
    created_at: dt.datetime = attribute(LEAD.created_at, "Time when the callback was requested.")
    updated_at: dt.datetime = attribute(
        LEAD.updated_at, "Time when the lead was last changed. Send it as `expectedUpdatedAt` to detect conflicts."
    )


@input_type
class RequestCallbackInput:
    """The callback form."""

    name: str = strawberry.field(description="Name of the person to call.")
    phone: str = strawberry.field(description="Phone number to call.")


@input_type
class UpdateLeadInput(Update):
    """Changes to a lead. Omitted fields keep their values."""

    id: ID = strawberry.field(description=LEAD_ID)
    name: str | None = optional_field("Name of the person.", UNSET)
    phone: str | None = optional_field("Phone number.", UNSET)
    status: LeadStatus | None = optional_field("Progress of the lead.", UNSET)
    comment: str | None = optional_field("Comment of a manager. Null clears it.", UNSET)


@object_type
class RequestCallbackPayload:
    """Result of requestCallback."""

    accepted: bool = strawberry.field(
        default=False, description="Whether the form was valid, even if it did not become a lead."
    )
    lead: Lead | None = optional_field("The new lead. Null while `trackLeads` is off.")
    errors: list[InputError] = errors_field()


@object_type
class UpdateLeadPayload:
    """Result of updateLead."""

    lead: Lead | None = optional_field("The updated lead.")
    errors: list[InputError] = errors_field()


@object_type
class DeleteLeadPayload:
    """Result of deleteLead."""

    deleted_id: ID | None = optional_field("Id of the deleted lead.")
    errors: list[InputError] = errors_field()


LeadId = Annotated[ID, strawberry.argument(description=LEAD_ID)]


@strawberry.type
class LeadQuery:
    """The queries `lead` and `leads`."""

    @query(
        """
        query {
          lead(id: "lead_01h455vb4pex5vsknk084sn02q") { name phone status comment }
        }
        """
    )
    async def lead(self, id: LeadId) -> Lead | None:
        """Look up a lead by id. Null if there is none."""
        row = await rows.Lead.get_or_none(id=parse_query_id(Prefix.LEAD, id))
        return None if row is None else Lead.of(row)

    @query(
        """
        query {
          leads(first: 20) { nodes { id name phone status } pageInfo { hasNextPage endCursor } }
        }
        """
    )
    async def leads(self, first: First = 20, after: After = None) -> Connection[Lead] | None:
        """List leads, newest first."""
        return await read_page(rows.Lead.all(), first, after, Lead.of)


@strawberry.type
class LeadMutation:
    """The mutations `requestCallback`, `updateLead` and `deleteLead`."""

    @mutation(
        """
        mutation {
          requestCallback(input: {name: "Ada", phone: "+1 555 0100"}) {
            accepted
            lead { id }
            errors { field message }
          }
        }
        """
    )
    async def request_callback(
        self, input: Annotated[RequestCallbackInput, strawberry.argument(description="The form.")]
    ) -> RequestCallbackPayload | None:
        """Submit the callback form. It becomes a lead while `trackLeads` is on."""
        row = await leads.request_callback(input.name, input.phone)
        lead = None if row is None else Lead.of(row)
        return RequestCallbackPayload(accepted=True, lead=lead)

    @mutation(
        """
        mutation {
          updateLead(input: {id: "lead_01h455vb4pex5vsknk084sn02q", status: DONE}) {
            lead { status updatedAt }
            errors { field message }
          }
        }
        """
    )
    async def update_lead(
        self, input: Annotated[UpdateLeadInput, strawberry.argument(description="The changes.")]
    ) -> UpdateLeadPayload | None:
        """Update a lead."""
        row = await leads.update_lead(input.id, given_fields(input), or_none(input.expected_updated_at))
        return UpdateLeadPayload(lead=Lead.of(row))

    @mutation(
        """
        mutation {
          deleteLead(id: "lead_01h455vb4pex5vsknk084sn02q") { deletedId errors { message } }
        }
        """
    )
    async def delete_lead(self, id: LeadId) -> DeleteLeadPayload | None:
        """Delete a lead."""
        await leads.delete_lead(id)
        return DeleteLeadPayload(deleted_id=id)
