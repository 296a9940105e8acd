"""The live log: a subscription that goes on from a cursor without a gap."""

import datetime as dt
from collections.abc import AsyncGenerator
from contextlib import aclosing
from operator import attrgetter
from typing import Annotated, Self

import strawberry
from strawberry import ID

from ringback.graphql_api.context import Info
from ringback.graphql_api.descriptions import SUFFIX, described
from ringback.graphql_api.edges import edge
from ringback.graphql_api.enums import LogKind
from ringback.graphql_api.errors import ApiError, cursor_error
from ringback.graphql_api.inputs import query_keys, query_models
from ringback.graphql_api.nodes import Attempt, Event, Webhook
from ringback.graphql_api.sharing import Burst
from ringback.graphql_api.tailer import SubscriberBehind, Tailed
from ringback.models import event as rows
from ringback.models.errors import CursorInvalid
from ringback.models.ids import Prefix
from ringback.models.log import LogFilter, Position
from ringback.models.webhook import Webhook as WebhookRow


@strawberry.input(description="Which log entries to follow; conditions are combined with AND.")
class DeliveryLogFilter:
    """Conditions on log entries."""

    webhook_ids: list[ID] | None = strawberry.field(
        default=None, description=f'Of these webhooks, such as `["whk_{SUFFIX}"]`.'
    )
    event_ids: list[ID] | None = strawberry.field(
        default=None, description=f'Of these events, such as `["evt_{SUFFIX}"]`.'
    )
    models: list[str] | None = strawberry.field(default=None, description='Of these models, such as `["lead"]`.')
    kinds: list[LogKind] | None = strawberry.field(
        default=None, description="Of these kinds, such as `[EVENT_FAILED]`."
    )

    def wanted(self) -> LogFilter:
        """The domain's filter; raises a BAD_USER_INPUT error for malformed ids."""
        webhooks, events = self.webhook_ids, self.event_ids
        return LogFilter(
            webhook_ids=None
            if webhooks is None
            else frozenset(query_keys(Prefix.WEBHOOK, webhooks, "filter.webhookIds")),
            event_ids=None if events is None else frozenset(query_keys(Prefix.EVENT, events, "filter.eventIds")),
            models=None if self.models is None else frozenset(query_models(self.models)),
            kinds=None if self.kinds is None else frozenset(self.kinds),
        )


@strawberry.type(description="One transition of one event.")
class LogEntry:
    """A log row."""

    tailed: strawberry.Private[Tailed]
    cursor: str = strawberry.field(
        description="The entry's place: give the last one back as `after`, and nothing between is missed."
    )
    at: dt.datetime = strawberry.field(description="When it happened.")
    kind: LogKind = strawberry.field(description="What happened.")
    message: str = strawberry.field(description="One readable line.")

    @classmethod
    def of(cls, tailed: Tailed) -> Self:
        """The GraphQL object of a log row."""
        entry = tailed.entry
        return cls(tailed=tailed, cursor=tailed.position.cursor(), at=entry.at, kind=entry.kind, message=entry.message)

    @edge(lambda loaders: loaders.webhook, key=attrgetter("tailed.entry.webhook_id"), description="The webhook.")
    def webhook(self, row: WebhookRow | None) -> Webhook | None:
        """The entry's webhook."""
        return Webhook.of(row) if row else None

    @edge(
        lambda loaders: loaders.event, key=attrgetter("tailed.entry.event_id"), description="The event, as it is now."
    )
    def event(self, row: rows.Event | None) -> Event | None:
        """The entry's event."""
        return Event.of(row) if row else None

    @edge(
        lambda loaders: loaders.attempt,
        key=attrgetter("tailed.entry.attempt_id"),
        description="The attempt that it tells of; null where it tells of none.",
    )
    def attempt(self, row: rows.Attempt | None) -> Attempt | None:
        """The entry's attempt."""
        return Attempt.of(row) if row else None


@strawberry.type
class LogSubscription:
    """Root fields of this slice."""

    @strawberry.subscription(
        graphql_type=LogEntry | None,
        description=described(
            "Every transition of every event, as it is committed. Without `after` from now on; with it, "
            "first all that was missed. A cursor that is too old ends in CURSOR_EXPIRED, a reader that is too slow in "
            "CURSOR_BEHIND.",
            """
            subscription {
              deliveryLog(filter: {webhookIds: ["whk_01h455vb4pex5vsknk084sn02q"]}) {
                cursor
                at
                kind
                message
                event { id status }
                attempt { number outcome statusCode }
              }
            }
            """,
        ),
    )
    async def delivery_log(
        self,
        info: Info,
        filter: Annotated[DeliveryLogFilter | None, strawberry.argument(description="Which entries.")] = None,
        after: Annotated[
            str | None, strawberry.argument(description="The `cursor` of the last entry that you have seen.")
        ] = None,
    ) -> AsyncGenerator[Burst[Tailed], None]:
        """Follow the log."""
        wanted = (filter or DeliveryLogFilter()).wanted()
        try:
            position = Position.parse(after) if after is not None else None
            async with aclosing(info.context.services.tailer.follow(wanted, position)) as bursts:
                async for entries in bursts:
                    yield Burst(entries, LogEntry.of)
        except CursorInvalid as error:
            raise cursor_error(error) from error
        except SubscriberBehind as error:
            message = f"You fell behind: {error}. Resume with your last cursor."
            raise ApiError("CURSOR_BEHIND", message, cursor=error.position.cursor()) from error
