"""The subscription to the delivery log, which resumes from a cursor without a gap."""

import datetime as dt
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated

import strawberry
from strawberry import ID

from ringback.graphql_api.context import dataloaders
from ringback.graphql_api.context.live_log import SubscriberBehind, TailedEntry
from ringback.graphql_api.context.request_context import Info
from ringback.graphql_api.context.single_flight import EventBatch
from ringback.graphql_api.errors import ApiError, cursor_error
from ringback.graphql_api.fields.arguments import check_query_models, parse_query_ids
from ringback.graphql_api.fields.attribute_field import RowObject, attribute, computed_field, row_paths
from ringback.graphql_api.fields.descriptions import SUFFIX, input_type, object_type, optional_field
from ringback.graphql_api.fields.enums import LogKind
from ringback.graphql_api.fields.loaded_field import node_field
from ringback.graphql_api.fields.root_fields import subscription
from ringback.graphql_api.schema.delivery_types import Attempt, Event, Webhook
from ringback.models.delivery_log import LogFilter, Position
from ringback.models.errors import CursorInvalid
from ringback.models.ids import Prefix

ENTRY = row_paths(TailedEntry).entry


@input_type
class DeliveryLogFilter:
    """Conditions that the log entries must meet, combined with AND."""

    webhook_ids: list[ID] | None = optional_field(f'Only entries of these webhooks. Example: `["whk_{SUFFIX}"]`.')
    event_ids: list[ID] | None = optional_field(f'Only entries of these events. Example: `["evt_{SUFFIX}"]`.')
    models: list[str] | None = optional_field('Only entries of these models. Example: `["lead"]`.')
    kinds: list[LogKind] | None = optional_field("Only entries of these kinds. Example: `[EVENT_FAILED]`.")

    def to_log_filter(self) -> LogFilter:
        """Return the filter of the log. Raises BAD_USER_INPUT for malformed ids and names."""
        return LogFilter(
            webhook_ids=parse_query_ids(Prefix.WEBHOOK, self.webhook_ids, "filter.webhookIds"),
            event_ids=parse_query_ids(Prefix.EVENT, self.event_ids, "filter.eventIds"),
            models=check_query_models(self.models),
            kinds=None if self.kinds is None else frozenset(self.kinds),
        )


def _cursor(entry: RowObject) -> str:
    tailed: TailedEntry = entry.row
    return tailed.position.cursor()


@object_type
class LogEntry(RowObject):
    """A state transition of an event."""

    cursor: str = computed_field(
        _cursor, "Position of the entry in the log. Send it as `after` to resume behind the entry."
    )
    at: dt.datetime = attribute(ENTRY.at, "Time of the transition.")
    kind: LogKind = attribute(ENTRY.kind, "Kind of transition.")
    message: str = attribute(ENTRY.message, "Readable summary in one line.")
    webhook: Webhook | None = node_field(
        dataloaders.webhook, ENTRY.webhook_id, "Webhook that the event belongs to.", Webhook.of
    )
    event: Event | None = node_field(dataloaders.event, ENTRY.event_id, "Event in its current state.", Event.of)
    attempt: Attempt | None = node_field(
        dataloaders.attempt,
        ENTRY.attempt_id,
        "Attempt that caused the transition. Null if no attempt did.",
        Attempt.of,
    )


@strawberry.type
class DeliveryLogSubscription:
    """The subscription to the delivery log."""

    @subscription(
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
        filter: Annotated[
            DeliveryLogFilter | None, strawberry.argument(description="Conditions. Null follows all entries.")
        ] = None,
        after: Annotated[
            str | None,
            strawberry.argument(description="`cursor` of the last entry received. Null starts with new entries."),
        ] = None,
    ) -> AsyncGenerator[EventBatch[TailedEntry], None]:
        """Follow the delivery log: every state transition of every event, as it is committed.

        With `after`, the missed entries come first. The error CURSOR_EXPIRED means that `after` is too old,
        CURSOR_BEHIND that the client reads too slowly.
        """
        log_filter = (filter or DeliveryLogFilter()).to_log_filter()
        try:
            position = None if after is None else Position.parse(after)
            async with aclosing(info.context.services.tailer.follow(log_filter, position)) as batches:
                async for entries in batches:
                    yield EventBatch(entries, LogEntry.of)
        except CursorInvalid as error:
            raise cursor_error(error) from error
        except SubscriberBehind as error:
            raise ApiError("CURSOR_BEHIND", str(error), cursor=error.position.cursor()) from error
