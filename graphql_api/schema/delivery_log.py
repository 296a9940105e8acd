"""The live log: a subscription that goes on from a cursor without a gap."""

import datetime as dt
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated

import strawberry
from strawberry import ID

from ringback.graphql_api.context import dataloaders
from ringback.graphql_api.context.live_log import SubscriberBehind, Tailed
from ringback.graphql_api.context.request_context import Info
from ringback.graphql_api.context.single_flight import EventBatch
from ringback.graphql_api.errors import ApiError, cursor_error
from ringback.graphql_api.fields.arguments import check_query_models, parse_query_ids
from ringback.graphql_api.fields.attribute_field import RowObject, attribute
from ringback.graphql_api.fields.descriptions import SUFFIX, optional_field
from ringback.graphql_api.fields.enums import LogKind
from ringback.graphql_api.fields.loaded_field import loaded_field, node
from ringback.graphql_api.fields.root_fields import subscription
from ringback.graphql_api.schema.delivery_types import Attempt, Event, Webhook
from ringback.models.delivery_log import LogFilter, Position
from ringback.models.errors import CursorInvalid
from ringback.models.ids import Prefix


@strawberry.input(description="Which log entries to follow; conditions are combined with AND.")
class DeliveryLogFilter:
    """Conditions on log entries."""

    webhook_ids: list[ID] | None = optional_field(f'Of these webhooks, such as `["whk_{SUFFIX}"]`.')
    event_ids: list[ID] | None = optional_field(f'Of these events, such as `["evt_{SUFFIX}"]`.')
    models: list[str] | None = optional_field('Of these models, such as `["lead"]`.')
    kinds: list[LogKind] | None = optional_field("Of these kinds, such as `[EVENT_FAILED]`.")

    def wanted(self) -> LogFilter:
        """The domain's filter; raises a BAD_USER_INPUT error for malformed ids."""
        return LogFilter(
            webhook_ids=parse_query_ids(Prefix.WEBHOOK, self.webhook_ids, "filter.webhookIds"),
            event_ids=parse_query_ids(Prefix.EVENT, self.event_ids, "filter.eventIds"),
            models=check_query_models(self.models),
            kinds=None if self.kinds is None else frozenset(self.kinds),
        )


@strawberry.type(description="One transition of one event.")
class LogEntry(RowObject):
    """A log row; `row` is a Tailed."""

    cursor: str = attribute(
        lambda entry: entry.row.position.cursor(),
        "The entry's place: give the last one back as `after`, and nothing between is missed.",
    )
    at: dt.datetime = attribute("row.entry.at", "When it happened.")
    kind: LogKind = attribute("row.entry.kind", "What happened.")
    message: str = attribute("row.entry.message", "One readable line.")
    webhook: Webhook | None = loaded_field(
        dataloaders.webhook, "row.entry.webhook_id", "The webhook.", node(lambda: Webhook)
    )
    event: Event | None = loaded_field(
        dataloaders.event, "row.entry.event_id", "The event, as it is now.", node(lambda: Event)
    )
    attempt: Attempt | None = loaded_field(
        dataloaders.attempt,
        "row.entry.attempt_id",
        "The attempt that it tells of; null where it tells of none.",
        node(lambda: Attempt),
    )


@strawberry.type
class LogSubscription:
    """Root fields of this slice."""

    @subscription(
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
        graphql_type=LogEntry | None,
    )
    async def delivery_log(
        self,
        info: Info,
        filter: Annotated[DeliveryLogFilter | None, strawberry.argument(description="Which entries.")] = None,
        after: Annotated[
            str | None, strawberry.argument(description="The `cursor` of the last entry that you have seen.")
        ] = None,
    ) -> AsyncGenerator[EventBatch[Tailed], None]:
        """Follow the log."""
        wanted = (filter or DeliveryLogFilter()).wanted()
        try:
            position = Position.parse(after) if after is not None else None
            async with aclosing(info.context.services.tailer.follow(wanted, position)) as bursts:
                async for entries in bursts:
                    yield EventBatch(entries, LogEntry.of)
        except CursorInvalid as error:
            raise cursor_error(error) from error
        except SubscriberBehind as error:
            message = f"The subscriber is {error}. Subscribe again with `after` set to `extensions.cursor`."
            raise ApiError("CURSOR_BEHIND", message, cursor=error.position.cursor()) from error
