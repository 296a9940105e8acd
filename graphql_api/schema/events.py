"""Queries of events and attempts, and the mutations test-fire, redeliver and cancel."""

from typing import Annotated

import strawberry
from strawberry import ID, UNSET
from strawberry.scalars import JSON

from ringback.graphql_api.fields.arguments import or_none, parse_query_id
from ringback.graphql_api.fields.descriptions import describe_id, input_type, object_type, optional_field
from ringback.graphql_api.fields.enums import Action
from ringback.graphql_api.fields.input_errors import InputError, errors_field
from ringback.graphql_api.fields.relay import After, Connection, First, read_merged_page
from ringback.graphql_api.fields.root_fields import mutation, query
from ringback.graphql_api.schema.delivery_types import Attempt, Event
from ringback.graphql_api.schema.event_filters import AttemptFilter, EventFilter
from ringback.models import event as rows
from ringback.models.database.row_decoding import find_row
from ringback.models.ids import Prefix
from ringback.models.services import events as event_service


@input_type
class TestFireWebhookInput:
    """A test of a webhook."""

    webhook_id: ID = strawberry.field(description=describe_id("Id of a webhook, active or not", Prefix.WEBHOOK))
    action: Action = strawberry.field(default=Action.CREATED, description="Action to simulate.")
    item: JSON | None = optional_field(
        'Object to send. Null sends the sample of the model. Example: `{name: "Ada"}`.', UNSET
    )


@object_type
class EventPayload:
    """Result of a mutation of one event."""

    event: Event | None = optional_field("The event after the mutation.")
    errors: list[InputError] = errors_field()


@object_type
class TestFireWebhookPayload(EventPayload):
    """Result of testFireWebhook."""


@object_type
class RedeliverEventPayload(EventPayload):
    """Result of redeliverEvent."""


@object_type
class CancelEventPayload(EventPayload):
    """Result of cancelEvent."""


EventId = Annotated[
    ID,
    strawberry.argument(
        description=describe_id("Event id, which receivers see as `PS-WEBHOOK_EVENT-ID`", Prefix.EVENT)
    ),
]
AttemptId = Annotated[ID, strawberry.argument(description=describe_id("Attempt id", Prefix.ATTEMPT))]


@strawberry.type
class EventQuery:
    """The queries `event`, `events`, `attempt` and `attempts`."""

    @query(
        """
        query {
          event(id: "evt_01h455vb4pex5vsknk084sn02q") { status item attempts { number outcome statusCode error } }
        }
        """
    )
    async def event(self, id: EventId) -> Event | None:
        """Look up an event by id. Null if there is none."""
        row = await find_row(rows.Event, parse_query_id(Prefix.EVENT, id))
        return None if row is None else Event.of(row)

    @query(
        """
        query {
          events(first: 50, filter: {statuses: [FAILED], createdAfter: "2026-01-31T12:00:00Z"}) {
            nodes { id webhook { name } objectId attemptCount }
            pageInfo { hasNextPage endCursor }
          }
        }
        """
    )
    async def events(
        self,
        first: First = 20,
        after: After = None,
        filter: Annotated[
            EventFilter | None, strawberry.argument(description="Conditions. Null lists all events.")
        ] = None,
    ) -> Connection[Event] | None:
        """List events, newest first.

        If few events match, a page may have fewer than `first` nodes, or none, although `hasNextPage` is true: continue
        with `endCursor`.
        """
        scans = (filter or EventFilter()).plan_scans()
        return await read_merged_page([scan.newest for scan in scans], first, after, Event.of)

    @query(
        """
        query {
          attempt(id: "att_01h455vb4pex5vsknk084sn02q") { outcome request { method url body } response { body } }
        }
        """
    )
    async def attempt(self, id: AttemptId) -> Attempt | None:
        """Look up an attempt by id. Null if there is none."""
        row = await find_row(rows.Attempt, parse_query_id(Prefix.ATTEMPT, id))
        return None if row is None else Attempt.of(row)

    @query(
        """
        query {
          attempts(first: 50, filter: {outcomes: [TIMED_OUT, UNREACHABLE]}) {
            nodes { id startedAt outcome error event { id } }
            pageInfo { hasNextPage endCursor }
          }
        }
        """
    )
    async def attempts(
        self,
        first: First = 20,
        after: After = None,
        filter: Annotated[
            AttemptFilter | None, strawberry.argument(description="Conditions. Null lists all attempts.")
        ] = None,
    ) -> Connection[Attempt] | None:
        """List the attempts of all events, newest first.

        If few attempts match, a page may have fewer than `first` nodes, or none, although `hasNextPage` is true:
        continue with `endCursor`.
        """
        scans = (filter or AttemptFilter()).plan_scans()
        return await read_merged_page([scan.newest for scan in scans], first, after, Attempt.of)


@strawberry.type
class EventMutation:
    """The mutations `testFireWebhook`, `redeliverEvent` and `cancelEvent`."""

    @mutation(
        """
        mutation {
          testFireWebhook(input: {webhookId: "whk_01h455vb4pex5vsknk084sn02q", item: {name: "Ada"}}) {
            event { id status }
            errors { field message }
          }
        }
        """
    )
    async def test_fire_webhook(
        self, input: Annotated[TestFireWebhookInput, strawberry.argument(description="The test.")]
    ) -> TestFireWebhookPayload | None:
        """Record a test event and deliver it at once.

        The webhook may be inactive, and its condition is ignored. No other object is created or changed.
        """
        row = await event_service.test_fire(input.webhook_id, input.action, or_none(input.item))
        return TestFireWebhookPayload(event=Event.of(row))

    @mutation(
        """
        mutation {
          redeliverEvent(id: "evt_01h455vb4pex5vsknk084sn02q") { event { status nextAttemptAt } errors { message } }
        }
        """
    )
    async def redeliver_event(self, id: EventId) -> RedeliverEventPayload | None:
        """Deliver an event again.

        The next attempt of a RETRYING event is made now. An event that has ended starts a new round of the webhook's
        schedule, and its attempt numbers continue.
        """
        row = await event_service.redeliver(id)
        return RedeliverEventPayload(event=Event.of(row))

    @mutation(
        """
        mutation {
          cancelEvent(id: "evt_01h455vb4pex5vsknk084sn02q") { event { status finishedAt } errors { message } }
        }
        """
    )
    async def cancel_event(self, id: EventId) -> CancelEventPayload | None:
        """Cancel an event that has not ended. An attempt in flight is still recorded."""
        row = await event_service.cancel(id)
        return CancelEventPayload(event=Event.of(row))
