"""Filters of events and attempts, each with the indexes that find the rows.

A filter becomes one or more index scans (models.database.keyset), whose rows are merged into one list.
"""

import datetime as dt
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from strawberry import ID

from ringback.graphql_api.fields.arguments import (
    MAX_OBJECT_ID,
    check_query_models,
    check_query_text,
    check_range,
    parse_query_ids,
)
from ringback.graphql_api.fields.descriptions import SUFFIX, input_type, optional_field
from ringback.graphql_api.fields.enums import Action, EventStatus, OutcomeName
from ringback.models import event as rows
from ringback.models.database.keyset import KeysetScan
from ringback.models.database.keyset_sql import IndexPrefix
from ringback.models.ids import Prefix, least_key_at

#: Maximum difference, in seconds, between the time in an id and the row's timestamp. Machines whose clocks differ make
#: ids, and the first release made an attempt's id when it recorded the attempt.
KEY_TOLERANCE_SECONDS = 600

#: Indexes of events, the most selective first.
EVENT_INDEXES = (
    IndexPrefix(("object_id",)),
    IndexPrefix(("webhook_id", "status")),
    IndexPrefix(("status",)),
    IndexPrefix(("model",)),
)
TEST_EVENT_INDEXES = (IndexPrefix(where="is_test"),)

#: Indexes of attempts, the most selective first.
ATTEMPT_INDEXES = (IndexPrefix(("webhook_id", "outcome")), IndexPrefix(("outcome",)))
#: An event has few attempts.
EVENT_ATTEMPT_INDEXES = (IndexPrefix(("event_id",), few=True),)
#: The status of nearly all responses. The partial indexes by status leave it out.
FREQUENT_STATUS_CODE = 200
#: Attempts with the frequent status that do not count as delivered.
UNDELIVERED_INDEXES = (
    IndexPrefix(("status_code",), f"status_code = {FREQUENT_STATUS_CODE} AND outcome <> '{OutcomeName.DELIVERED}'"),
)
OTHER_STATUS_CODE = f"status_code <> {FREQUENT_STATUS_CODE}"
OTHER_STATUS_CODE_INDEXES = (
    IndexPrefix(("webhook_id", "status_code"), OTHER_STATUS_CODE),
    IndexPrefix(("status_code",), OTHER_STATUS_CODE),
    *ATTEMPT_INDEXES,
)


@input_type
class EventFilter:
    """Conditions that the listed events must meet, combined with AND."""

    webhook_ids: list[ID] | None = optional_field(f'Only events of these webhooks. Example: `["whk_{SUFFIX}"]`.')
    models: list[str] | None = optional_field('Only events of these models. Example: `["lead"]`.')
    actions: list[Action] | None = optional_field("Only events of these actions. Example: `[CREATED, UPDATED]`.")
    statuses: list[EventStatus] | None = optional_field(
        "Only events with these statuses. Example: `[PENDING, RETRYING]`."
    )
    object_id: str | None = optional_field(f"Only events of the object with this id. Example: `lead_{SUFFIX}`.")
    created_after: dt.datetime | None = optional_field(
        "Only events recorded after this time. Example: `2026-01-31T12:00:00Z`."
    )
    created_before: dt.datetime | None = optional_field(
        "Only events recorded before this time. Example: `2026-01-31T13:00:00Z`."
    )
    is_test: bool | None = optional_field("Only test events (`true`) or real events (`false`).")

    def plan_scans(self) -> list[KeysetScan[rows.Event]]:
        """Return the scans that find the matching events. Raises BAD_USER_INPUT for an invalid id, text or range."""
        check_range(self.created_after, self.created_before, "filter.created")
        columns: dict[str, Collection[Any] | None] = {
            "webhook_id": parse_query_ids(Prefix.WEBHOOK, self.webhook_ids, "filter.webhookIds"),
            "model": check_query_models(self.models),
            "action": self.actions,
            "status": self.statuses,
        }
        if self.statuses is None and self.webhook_ids is not None:
            columns["status"] = set(EventStatus)  # status is the second column of the index on webhook_id
        if self.object_id is not None:
            columns["object_id"] = [check_query_text(self.object_id, "filter.objectId", MAX_OBJECT_ID)]
        created = _TimeRange("created_at", self.created_after, self.created_before)
        conditions = created.conditions()
        indexes: Sequence[IndexPrefix] = EVENT_INDEXES
        if self.is_test:
            indexes = TEST_EVENT_INDEXES
        elif self.is_test is False:
            conditions.append(("NOT is_test", None))
        return [
            KeysetScan(
                rows.Event,
                _select_given(columns),
                more=conditions,
                least=created.least_key(),
                below=created.key_below(),
                indexes=indexes,
            )
        ]


@input_type
class AttemptFilter:
    """Conditions that the listed attempts must meet, combined with AND."""

    webhook_ids: list[ID] | None = optional_field(f'Only attempts for these webhooks. Example: `["whk_{SUFFIX}"]`.')
    event_ids: list[ID] | None = optional_field(f'Only attempts of these events. Example: `["evt_{SUFFIX}"]`.')
    outcomes: list[OutcomeName] | None = optional_field("Only attempts with these outcomes. Example: `[TIMED_OUT]`.")
    status_code: int | None = optional_field("Only attempts with this response status. Example: `500`.")
    started_after: dt.datetime | None = optional_field(
        "Only attempts started after this time. Example: `2026-01-31T12:00:00Z`."
    )
    started_before: dt.datetime | None = optional_field(
        "Only attempts started before this time. Example: `2026-01-31T13:00:00Z`."
    )

    def plan_scans(self) -> list[KeysetScan[rows.Attempt]]:
        """Return the scans that find the matching attempts. Raises BAD_USER_INPUT for an invalid id or range."""
        check_range(self.started_after, self.started_before, "filter.started")
        columns = _select_given(
            {
                "webhook_id": parse_query_ids(Prefix.WEBHOOK, self.webhook_ids, "filter.webhookIds"),
                "event_id": parse_query_ids(Prefix.EVENT, self.event_ids, "filter.eventIds"),
                "outcome": self.outcomes,
            }
        )
        if self.status_code is not None:
            columns["status_code"] = [self.status_code]
        elif self.outcomes is None and self.webhook_ids is not None:
            columns["outcome"] = set(OutcomeName)  # outcome is the second column of the index on webhook_id
        if self.event_ids is not None:
            return [self._scan(columns, EVENT_ATTEMPT_INDEXES)]
        if self.status_code is None:
            return [self._scan(columns, ATTEMPT_INDEXES)]
        if self.status_code != FREQUENT_STATUS_CODE:
            return [self._scan(columns, OTHER_STATUS_CODE_INDEXES)]
        # Nearly all attempts with this status were delivered; the others have an index of their own.
        outcomes = set(OutcomeName) if self.outcomes is None else set(self.outcomes)
        delivered = {**columns, "outcome": outcomes & {OutcomeName.DELIVERED}}
        undelivered = {**columns, "outcome": outcomes - {OutcomeName.DELIVERED}}
        return [self._scan(delivered, ATTEMPT_INDEXES), self._scan(undelivered, UNDELIVERED_INDEXES)]

    def _scan(self, columns: Mapping[str, Collection[Any]], indexes: Sequence[IndexPrefix]) -> KeysetScan[rows.Attempt]:
        started = _TimeRange("started_at", self.started_after, self.started_before)
        return KeysetScan(
            rows.Attempt,
            columns,
            more=started.conditions(),
            least=started.least_key(),
            below=started.key_below(),
            indexes=indexes,
        )


def _select_given(columns: Mapping[str, Collection[Any] | None]) -> dict[str, Collection[Any]]:
    """Return the columns that a filter restricts, each with the distinct values that it may have."""
    return {column: set(values) for column, values in columns.items() if values is not None}


@dataclass(frozen=True, slots=True)
class _TimeRange:
    """A range of a timestamp column, and of the ids that its rows can have."""

    column: str
    after: dt.datetime | None
    before: dt.datetime | None

    def conditions(self) -> list[tuple[str, Any]]:
        """Return conditions in SQL, each with its parameter."""
        conditions: list[tuple[str, Any]] = []
        if self.after is not None:
            conditions.append((f"{self.column} > {{}}", self.after.astimezone(dt.UTC)))
        if self.before is not None:
            conditions.append((f"{self.column} < {{}}", self.before.astimezone(dt.UTC)))
        return conditions

    def least_key(self) -> UUID | None:
        return None if self.after is None else least_key_at(self.after, -KEY_TOLERANCE_SECONDS)

    def key_below(self) -> UUID | None:
        return None if self.before is None else least_key_at(self.before, KEY_TOLERANCE_SECONDS)
