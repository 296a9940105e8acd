"""Events and attempts: looking them up, firing tests, redelivering, cancelling."""

import datetime as dt
from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Any

import strawberry
from strawberry import ID, UNSET
from strawberry.scalars import JSON

from ringback.graphql_api.fields.arguments import (
    MAX_OBJECT_ID,
    check_query_models,
    check_query_text,
    check_range,
    or_none,
    parse_query_id,
    parse_query_ids,
)
from ringback.graphql_api.fields.descriptions import SUFFIX, id_description, optional_field
from ringback.graphql_api.fields.enums import Action, EventStatus, OutcomeName
from ringback.graphql_api.fields.input_errors import InputError
from ringback.graphql_api.fields.relay import After, Connection, First, page_of
from ringback.graphql_api.fields.root_fields import mutation, query
from ringback.graphql_api.schema.delivery_types import Attempt, Event
from ringback.models import event as rows
from ringback.models.database.keyset import KeysetScan
from ringback.models.database.keyset_sql import IndexPrefix
from ringback.models.ids import Prefix, least_key_at
from ringback.models.services import events as event_service

#: By how much the time in a row's key may differ from the moment that it stands for, in seconds: keys are made by the
#: clocks of several machines, those of the first release's attempts when they were recorded.
KEY_SECONDS = 600
SHORT_PAGES = (
    "Where what is asked for is very rare, a page may hold fewer than `first`, even none, although there is a next "
    "one: go on with `endCursor`."
)
#: The indexes that find events and attempts, the best first.
EVENT_INDEXES = (
    IndexPrefix(("object_id",)),
    IndexPrefix(("webhook_id", "status")),
    IndexPrefix(("status",)),
    IndexPrefix(("model",)),
)
TEST_EVENT_INDEXES = (IndexPrefix(where="is_test"),)
ATTEMPT_INDEXES = (IndexPrefix(("webhook_id", "outcome")), IndexPrefix(("outcome",)))
#: The status that nearly all answers have; the indexes of what is rare do without it.
FREQUENT_STATUS_CODE = 200
ODD = f"status_code = {FREQUENT_STATUS_CODE} AND outcome <> '{OutcomeName.DELIVERED}'"
ODD_INDEXES = (IndexPrefix(("status_code",), ODD),)
OTHER_STATUS_CODE = f"status_code <> {FREQUENT_STATUS_CODE}"
OTHER_STATUS_CODE_INDEXES = (
    IndexPrefix(("webhook_id", "status_code"), OTHER_STATUS_CODE),
    IndexPrefix(("status_code",), OTHER_STATUS_CODE),
    *ATTEMPT_INDEXES,
)
#: An event has few attempts.
INDEXES_OF_EVENTS = (IndexPrefix(("event_id",), few=True),)


def _given(lists: Mapping[str, Collection[Any] | None]) -> dict[str, Collection[Any]]:
    """The lists of a filter that were given, without what they name twice."""
    return {column: set(values) for column, values in lists.items() if values is not None}


def _span(column: str, after: dt.datetime | None, before: dt.datetime | None) -> dict[str, Any]:
    """The rows of a span of time; their keys, by which they are read, are of about the same time."""
    found: dict[str, Any] = {"more": []}
    if after is not None:
        found["least"] = least_key_at(after, -KEY_SECONDS)
        found["more"].append((f"{column} > {{}}", after.astimezone(dt.UTC)))
    if before is not None:
        found["below"] = least_key_at(before, KEY_SECONDS)
        found["more"].append((f"{column} < {{}}", before.astimezone(dt.UTC)))
    return found


@strawberry.input(description="Which events to list; conditions are combined with AND.")
class EventFilter:
    """Conditions on events."""

    webhook_ids: list[ID] | None = optional_field(f'Of these webhooks, such as `["whk_{SUFFIX}"]`.')
    models: list[str] | None = optional_field('Of these models, such as `["lead"]`.')
    actions: list[Action] | None = optional_field("Of these actions, such as `[CREATED, UPDATED]`.")
    statuses: list[EventStatus] | None = optional_field("In these states, such as `[PENDING, RETRYING]`.")
    object_id: str | None = optional_field(f"Of the object with this id, such as `lead_{SUFFIX}`.")
    created_after: dt.datetime | None = optional_field("Recorded after this moment, such as `2026-01-31T12:00:00Z`.")
    created_before: dt.datetime | None = optional_field("Recorded before this moment, such as `2026-01-31T13:00:00Z`.")
    is_test: bool | None = optional_field("Test events (`true`), or real ones (`false`).")

    def rows(self) -> list[KeysetScan[rows.Event]]:
        """The events that meet all conditions, in parts; raises a BAD_USER_INPUT error for malformed ids and ranges."""
        check_range(self.created_after, self.created_before, "filter.created")
        lists: dict[str, Collection[Any] | None] = {
            "webhook_id": parse_query_ids(Prefix.WEBHOOK, self.webhook_ids, "filter.webhookIds"),
            "model": check_query_models(self.models),
            "action": self.actions,
            "status": self.statuses,
        }
        if self.statuses is None and self.webhook_ids is not None:  # which are in no index by themselves
            lists["status"] = set(EventStatus)
        if self.object_id is not None:
            lists["object_id"] = [check_query_text(self.object_id, "filter.objectId", MAX_OBJECT_ID)]
        span = _span("created_at", self.created_after, self.created_before)
        leads: Sequence[IndexPrefix] = EVENT_INDEXES
        if self.is_test:
            leads = TEST_EVENT_INDEXES
        elif self.is_test is False:
            span["more"].append(("NOT is_test", None))
        return [KeysetScan(rows.Event, _given(lists), indexes=leads, **span)]


@strawberry.input(description="Which attempts to list; conditions are combined with AND.")
class AttemptFilter:
    """Conditions on attempts."""

    webhook_ids: list[ID] | None = optional_field(f'For these webhooks, such as `["whk_{SUFFIX}"]`.')
    event_ids: list[ID] | None = optional_field(f'Of these events, such as `["evt_{SUFFIX}"]`.')
    outcomes: list[OutcomeName] | None = optional_field("That ended like this, such as `[TIMED_OUT]`.")
    status_code: int | None = optional_field("Whose answer had this status, such as `500`.")
    started_after: dt.datetime | None = optional_field("Begun after this moment, such as `2026-01-31T12:00:00Z`.")
    started_before: dt.datetime | None = optional_field("Begun before this moment, such as `2026-01-31T13:00:00Z`.")

    def rows(self) -> list[KeysetScan[rows.Attempt]]:
        """The attempts that meet all conditions, in parts; raises BAD_USER_INPUT for malformed ids and ranges."""
        check_range(self.started_after, self.started_before, "filter.started")
        lists = _given(
            {
                "webhook_id": parse_query_ids(Prefix.WEBHOOK, self.webhook_ids, "filter.webhookIds"),
                "event_id": parse_query_ids(Prefix.EVENT, self.event_ids, "filter.eventIds"),
                "outcome": self.outcomes,
            }
        )
        if self.outcomes is None and self.webhook_ids is not None and self.status_code is None:
            lists["outcome"] = set(OutcomeName)  # webhooks are in no index by themselves
        span = _span("started_at", self.started_after, self.started_before)
        if self.status_code is not None:
            lists["status_code"] = [self.status_code]
        if self.event_ids is not None:
            return [KeysetScan(rows.Attempt, lists, indexes=INDEXES_OF_EVENTS, **span)]
        if self.status_code == FREQUENT_STATUS_CODE:
            # Nearly all of them are those that were delivered; the others have an index of their own.
            outcomes = set(self.outcomes) if self.outcomes is not None else set(OutcomeName)
            parts = (
                ({OutcomeName.DELIVERED}, ATTEMPT_INDEXES),
                (set(OutcomeName) - {OutcomeName.DELIVERED}, ODD_INDEXES),
            )
            return [
                KeysetScan(rows.Attempt, {**lists, "outcome": outcomes & part}, indexes=leads, **span)
                for part, leads in parts
            ]
        leads = ATTEMPT_INDEXES if self.status_code is None else OTHER_STATUS_CODE_INDEXES
        return [KeysetScan(rows.Attempt, lists, indexes=leads, **span)]


@strawberry.input(description="A test of a webhook.")
class TestFireWebhookInput:
    """What to fire."""

    webhook_id: ID = strawberry.field(description=id_description("whk", "; active or not"))
    action: Action = strawberry.field(default=Action.CREATED, description="The action to simulate.")
    item: JSON | None = optional_field(
        'The object to send, such as `{name: "Ada"}`; without it, the model\'s sample.', UNSET
    )


@strawberry.type(description="The answer to a mutation of one event.")
class EventPayload:
    """An event, or errors."""

    event: Event | None = optional_field("The event as it is now.")
    errors: list[InputError] = strawberry.field(default_factory=list, description="What to mend; empty on success.")


@strawberry.type(description="The answer to testFireWebhook.")
class TestFireWebhookPayload(EventPayload):
    """The test event, or errors."""


@strawberry.type(description="The answer to redeliverEvent.")
class RedeliverEventPayload(EventPayload):
    """The event, or errors."""


@strawberry.type(description="The answer to cancelEvent.")
class CancelEventPayload(EventPayload):
    """The event, or errors."""


EventId = Annotated[ID, strawberry.argument(description=id_description("evt", ", as in PS-WEBHOOK_EVENT-ID"))]


@strawberry.type
class EventQuery:
    """Root fields of this slice."""

    @query(
        "An event by its id, which its receiver sees as PS-WEBHOOK_EVENT-ID; null when unknown.",
        """
        query {
          event(id: "evt_01h455vb4pex5vsknk084sn02q") { status item attempts { number outcome statusCode error } }
        }
        """,
    )
    async def event(self, id: EventId) -> Event | None:
        """One event."""
        row = await rows.Event.get_or_none(id=parse_query_id(Prefix.EVENT, id))
        return Event.of(row) if row else None

    @query(
        f"The events, newest first. {SHORT_PAGES}",
        """
        query {
          events(first: 50, filter: {statuses: [FAILED], createdAfter: "2026-01-31T12:00:00Z"}) {
            nodes { id webhook { name } objectId attemptCount }
            pageInfo { hasNextPage endCursor }
          }
        }
        """,
    )
    async def events(
        self,
        first: First = 20,
        after: After = None,
        filter: Annotated[EventFilter | None, strawberry.argument(description="Which ones.")] = None,
    ) -> Connection[Event] | None:
        """A page of events."""
        return await page_of([part.newest for part in (filter or EventFilter()).rows()], first, after, Event.of)

    @query(
        "An attempt by its id; null when unknown.",
        """
        query {
          attempt(id: "att_01h455vb4pex5vsknk084sn02q") { outcome request { method url body } response { body } }
        }
        """,
    )
    async def attempt(
        self, id: Annotated[ID, strawberry.argument(description=id_description("att"))]
    ) -> Attempt | None:
        """One attempt."""
        row = await rows.Attempt.get_or_none(id=parse_query_id(Prefix.ATTEMPT, id))
        return Attempt.of(row) if row else None

    @query(
        f"The attempts of all events, newest first. {SHORT_PAGES}",
        """
        query {
          attempts(first: 50, filter: {outcomes: [TIMED_OUT, UNREACHABLE]}) {
            nodes { id startedAt outcome error event { id } }
            pageInfo { hasNextPage endCursor }
          }
        }
        """,
    )
    async def attempts(
        self,
        first: First = 20,
        after: After = None,
        filter: Annotated[AttemptFilter | None, strawberry.argument(description="Which ones.")] = None,
    ) -> Connection[Attempt] | None:
        """A page of attempts."""
        return await page_of([part.newest for part in (filter or AttemptFilter()).rows()], first, after, Attempt.of)


@strawberry.type
class EventMutation:
    """Root fields of this slice."""

    @mutation(
        "Fire a webhook for a test: a test event is recorded and delivered at once, whether the webhook is "
        "active or not and whatever its condition says. No lead and no order is touched.",
        """
        mutation {
          testFireWebhook(input: {webhookId: "whk_01h455vb4pex5vsknk084sn02q", item: {name: "Ada"}}) {
            event { id status }
            errors { field message }
          }
        }
        """,
    )
    async def test_fire_webhook(
        self, input: Annotated[TestFireWebhookInput, strawberry.argument(description="What to fire.")]
    ) -> TestFireWebhookPayload | None:
        """Test-fire."""
        row = await event_service.test_fire(input.webhook_id, input.action, or_none(input.item))
        return TestFireWebhookPayload(event=Event.of(row))

    @mutation(
        "Deliver an event again: the waiting attempt of a RETRYING event is made now; for one that has "
        "ended, a new round of the webhook's schedule begins and its attempts' numbers go on.",
        """
        mutation {
          redeliverEvent(id: "evt_01h455vb4pex5vsknk084sn02q") { event { status nextAttemptAt } errors { message } }
        }
        """,
    )
    async def redeliver_event(self, id: EventId) -> RedeliverEventPayload | None:
        """Redeliver."""
        return RedeliverEventPayload(event=Event.of(await event_service.redeliver(id)))

    @mutation(
        "Cancel an event that still waits for an attempt.",
        """
        mutation {
          cancelEvent(id: "evt_01h455vb4pex5vsknk084sn02q") { event { status finishedAt } errors { message } }
        }
        """,
    )
    async def cancel_event(self, id: EventId) -> CancelEventPayload | None:
        """Cancel."""
        return CancelEventPayload(event=Event.of(await event_service.cancel(id)))
