"""Events and attempts: looking them up, firing tests, redelivering, cancelling."""

import datetime as dt
from typing import Annotated, Any

import strawberry
from strawberry import ID, UNSET
from strawberry.scalars import JSON
from tortoise.queryset import QuerySet

from ringback.graphql_api.descriptions import SUFFIX, described, like
from ringback.graphql_api.enums import Action, EventStatus, OutcomeName
from ringback.graphql_api.errors import InputError, answered
from ringback.graphql_api.inputs import (
    MAX_OBJECT_ID,
    check_range,
    or_none,
    query_key,
    query_keys,
    query_models,
    query_text,
)
from ringback.graphql_api.nodes import Attempt, Event
from ringback.graphql_api.relay import After, Connection, First, page
from ringback.models import event as rows
from ringback.models import interventions
from ringback.models.ids import Prefix, least_key_at

#: By how much the time in a row's key may differ from the moment that it stands for, in seconds: keys are made by the
#: clocks of several machines, those of the first release's attempts when they were recorded.
KEY_SECONDS = 600


def _within(column: str, after: dt.datetime | None, before: dt.datetime | None) -> dict[str, Any]:
    """The rows of a span of time; their keys, by which they are read, are of about the same time."""
    conditions: dict[str, Any] = {}
    if after is not None:
        conditions |= {f"{column}__gt": after, "id__gte": least_key_at(after, -KEY_SECONDS)}
    if before is not None:
        conditions |= {f"{column}__lt": before, "id__lt": least_key_at(before, KEY_SECONDS)}
    return conditions


@strawberry.input(description="Which events to list; conditions are combined with AND.")
class EventFilter:
    """Conditions on events."""

    webhook_ids: list[ID] | None = strawberry.field(
        default=None, description=f'Of these webhooks, such as `["whk_{SUFFIX}"]`.'
    )
    models: list[str] | None = strawberry.field(default=None, description='Of these models, such as `["lead"]`.')
    actions: list[Action] | None = strawberry.field(
        default=None, description="Of these actions, such as `[CREATED, UPDATED]`."
    )
    statuses: list[EventStatus] | None = strawberry.field(
        default=None, description="In these states, such as `[PENDING, RETRYING]`."
    )
    object_id: str | None = strawberry.field(
        default=None, description=f"Of the object with this id, such as `lead_{SUFFIX}`."
    )
    created_after: dt.datetime | None = strawberry.field(
        default=None, description="Recorded after this moment, such as `2026-01-31T12:00:00Z`."
    )
    created_before: dt.datetime | None = strawberry.field(
        default=None, description="Recorded before this moment, such as `2026-01-31T13:00:00Z`."
    )
    is_test: bool | None = strawberry.field(default=None, description="Test events (`true`), or real ones (`false`).")

    def rows(self) -> QuerySet[rows.Event]:
        """The events that meet all conditions; raises a BAD_USER_INPUT error for malformed ids and ranges."""
        check_range(self.created_after, self.created_before, "filter.created")
        conditions: dict[str, Any] = {}
        if self.webhook_ids is not None:
            conditions["webhook_id__in"] = query_keys(Prefix.WEBHOOK, self.webhook_ids, "filter.webhookIds")
        if self.models is not None:
            conditions["model__in"] = query_models(self.models)
        if self.actions is not None:
            conditions["action__in"] = set(self.actions)
        if self.statuses is not None:
            conditions["status__in"] = set(self.statuses)
        if self.object_id is not None:
            conditions["object_id"] = query_text(self.object_id, "filter.objectId", MAX_OBJECT_ID)
        conditions |= _within("created_at", self.created_after, self.created_before)
        if self.is_test is not None:
            conditions["is_test"] = self.is_test
        return rows.Event.filter(**conditions)


@strawberry.input(description="Which attempts to list; conditions are combined with AND.")
class AttemptFilter:
    """Conditions on attempts."""

    webhook_ids: list[ID] | None = strawberry.field(
        default=None, description=f'For these webhooks, such as `["whk_{SUFFIX}"]`.'
    )
    event_ids: list[ID] | None = strawberry.field(
        default=None, description=f'Of these events, such as `["evt_{SUFFIX}"]`.'
    )
    outcomes: list[OutcomeName] | None = strawberry.field(
        default=None, description="That ended like this, such as `[TIMED_OUT]`."
    )
    status_code: int | None = strawberry.field(default=None, description="Whose answer had this status, such as `500`.")
    started_after: dt.datetime | None = strawberry.field(
        default=None, description="Begun after this moment, such as `2026-01-31T12:00:00Z`."
    )
    started_before: dt.datetime | None = strawberry.field(
        default=None, description="Begun before this moment, such as `2026-01-31T13:00:00Z`."
    )

    def rows(self) -> QuerySet[rows.Attempt]:
        """The attempts that meet all conditions; raises a BAD_USER_INPUT error for malformed ids and ranges."""
        check_range(self.started_after, self.started_before, "filter.started")
        conditions: dict[str, Any] = {}
        if self.webhook_ids is not None:
            conditions["webhook_id__in"] = query_keys(Prefix.WEBHOOK, self.webhook_ids, "filter.webhookIds")
        if self.event_ids is not None:
            conditions["event_id__in"] = query_keys(Prefix.EVENT, self.event_ids, "filter.eventIds")
        if self.outcomes is not None:
            conditions["outcome__in"] = set(self.outcomes)
        if self.status_code is not None:
            conditions["status_code"] = self.status_code
        conditions |= _within("started_at", self.started_after, self.started_before)
        return rows.Attempt.filter(**conditions)


@strawberry.input(description="A test of a webhook.")
class TestFireWebhookInput:
    """What to fire."""

    webhook_id: ID = strawberry.field(description=like("whk", "; active or not"))
    action: Action = strawberry.field(default=Action.CREATED, description="The action to simulate.")
    item: JSON | None = strawberry.field(
        default=UNSET, description='The object to send, such as `{name: "Ada"}`; without it, the model\'s sample.'
    )


@strawberry.type(description="The answer to a mutation of one event.")
class EventPayload:
    """An event, or errors."""

    event: Event | None = strawberry.field(default=None, description="The event as it is now.")
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


EventId = Annotated[ID, strawberry.argument(description=like("evt", ", as in PS-WEBHOOK_EVENT-ID"))]


@strawberry.type
class EventQuery:
    """Root fields of this slice."""

    @strawberry.field(
        description=described(
            "An event by its id, which its receiver sees as PS-WEBHOOK_EVENT-ID; null when unknown.",
            """
            query {
              event(id: "evt_01h455vb4pex5vsknk084sn02q") { status item attempts { number outcome statusCode error } }
            }
            """,
        )
    )
    async def event(self, id: EventId) -> Event | None:
        """One event."""
        row = await rows.Event.get_or_none(id=query_key(Prefix.EVENT, id))
        return Event.of(row) if row else None

    @strawberry.field(
        description=described(
            "The events, newest first.",
            """
            query {
              events(first: 50, filter: {statuses: [FAILED], createdAfter: "2026-01-31T12:00:00Z"}) {
                nodes { id webhook { name } objectId attemptCount }
                pageInfo { hasNextPage endCursor }
              }
            }
            """,
        )
    )
    async def events(
        self,
        first: First = 20,
        after: After = None,
        filter: Annotated[EventFilter | None, strawberry.argument(description="Which ones.")] = None,
    ) -> Connection[Event] | None:
        """A page of events."""
        return await page((filter or EventFilter()).rows(), first, after, Event.of)

    @strawberry.field(
        description=described(
            "An attempt by its id; null when unknown.",
            """
            query {
              attempt(id: "att_01h455vb4pex5vsknk084sn02q") { outcome request { method url body } response { body } }
            }
            """,
        )
    )
    async def attempt(self, id: Annotated[ID, strawberry.argument(description=like("att"))]) -> Attempt | None:
        """One attempt."""
        row = await rows.Attempt.get_or_none(id=query_key(Prefix.ATTEMPT, id))
        return Attempt.of(row) if row else None

    @strawberry.field(
        description=described(
            "The attempts of all events, newest first.",
            """
            query {
              attempts(first: 50, filter: {outcomes: [TIMED_OUT, UNREACHABLE]}) {
                nodes { id startedAt outcome error event { id } }
                pageInfo { hasNextPage endCursor }
              }
            }
            """,
        )
    )
    async def attempts(
        self,
        first: First = 20,
        after: After = None,
        filter: Annotated[AttemptFilter | None, strawberry.argument(description="Which ones.")] = None,
    ) -> Connection[Attempt] | None:
        """A page of attempts."""
        return await page((filter or AttemptFilter()).rows(), first, after, Attempt.of)


@strawberry.type
class EventMutation:
    """Root fields of this slice."""

    @strawberry.mutation(
        description=described(
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
    )
    async def test_fire_webhook(
        self, input: Annotated[TestFireWebhookInput, strawberry.argument(description="What to fire.")]
    ) -> TestFireWebhookPayload | None:
        """Test-fire."""

        async def work() -> TestFireWebhookPayload:
            row = await interventions.test_fire(input.webhook_id, input.action, or_none(input.item))
            return TestFireWebhookPayload(event=Event.of(row))

        return await answered(TestFireWebhookPayload, work())

    @strawberry.mutation(
        description=described(
            "Deliver an event again: the waiting attempt of a RETRYING event is made now; for one that has "
            "ended, a new round of the webhook's schedule begins and its attempts' numbers go on.",
            """
            mutation {
              redeliverEvent(id: "evt_01h455vb4pex5vsknk084sn02q") { event { status nextAttemptAt } errors { message } }
            }
            """,
        )
    )
    async def redeliver_event(self, id: EventId) -> RedeliverEventPayload | None:
        """Redeliver."""

        async def work() -> RedeliverEventPayload:
            return RedeliverEventPayload(event=Event.of(await interventions.redeliver(id)))

        return await answered(RedeliverEventPayload, work(), prefix="")

    @strawberry.mutation(
        description=described(
            "Cancel an event that still waits for an attempt.",
            """
            mutation {
              cancelEvent(id: "evt_01h455vb4pex5vsknk084sn02q") { event { status finishedAt } errors { message } }
            }
            """,
        )
    )
    async def cancel_event(self, id: EventId) -> CancelEventPayload | None:
        """Cancel."""

        async def work() -> CancelEventPayload:
            return CancelEventPayload(event=Event.of(await interventions.cancel(id)))

        return await answered(CancelEventPayload, work(), prefix="")
