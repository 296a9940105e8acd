"""The delivery log: one row for every transition, in commit order, from which the live log is read.

On SQLite an AUTOINCREMENT key under BEGIN IMMEDIATE grows in commit order. A cursor names the database (its epoch, made
with it), the transaction and the row, so a cursor from a database that was replaced is recognised.
"""

import base64
import binascii
import datetime as dt
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any
from uuid import UUID

from tortoise import fields
from tortoise.indexes import Index
from tortoise.models import Model

from ringback.models.errors import CursorExpired, CursorInvalid

#: Rows that one statement looks at when it reads with a filter.
MAX_SCANNED = 20_000


class LogKind(StrEnum):
    """What happened to an event."""

    EVENT_RECORDED = "EVENT_RECORDED"
    ATTEMPT_FINISHED = "ATTEMPT_FINISHED"
    RETRY_SCHEDULED = "RETRY_SCHEDULED"
    EVENT_SUCCEEDED = "EVENT_SUCCEEDED"
    EVENT_FAILED = "EVENT_FAILED"
    EVENT_CANCELLED = "EVENT_CANCELLED"


class LogEntry(Model):
    """One transition of one event."""

    id = fields.BigIntField(primary_key=True, generated=True)
    at = fields.DatetimeField()
    kind = fields.CharEnumField(LogKind, max_length=24)
    message = fields.TextField()
    webhook_id = fields.UUIDField()
    event_id = fields.UUIDField()
    attempt_id = fields.UUIDField(null=True)
    #: The tracked model's name, so that the log can be followed by model.
    model = fields.CharField(max_length=100)

    class Meta:
        table = "ringback_log"
        app = "ringback"
        # One webhook's entries among a million: 0.4 ms instead of 300, for 10 µs more at each write.
        indexes = (Index(fields=("webhook_id", "id")),)


class Installation(Model):
    """The one row that tells this database from every other."""

    id = fields.IntField(primary_key=True, generated=False)
    epoch = fields.UUIDField()
    created_at = fields.DatetimeField()

    class Meta:
        table = "ringback_installation"
        app = "ringback"


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """A place in the log: entries after it have a greater one.

    `transaction` is 0 where rows alone keep commit order.
    """

    epoch: UUID
    transaction: int
    row: int

    def cursor(self) -> str:
        """The position as clients keep it."""
        text = f"{self.epoch.hex}.{self.transaction:x}.{self.row:x}"
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")

    @classmethod
    def parse(cls, cursor: str) -> "Position":
        """The position behind a cursor, raises CursorInvalid."""
        try:
            text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode("ascii")
            epoch, transaction, row = text.split(".")
            position = cls(UUID(hex=epoch), int(transaction, 16), int(row, 16))
        except (ValueError, binascii.Error, UnicodeError) as error:
            raise CursorInvalid(f"{cursor!r:.120} is not a cursor of the delivery log") from error
        # Python's parsers take more spellings than cursor() writes.
        if not 0 <= position.row < 2**63 or not 0 <= position.transaction < 2**63 or position.cursor() != cursor:
            raise CursorInvalid(f"{cursor!r:.120} is not a cursor of the delivery log")
        return position


@dataclass(frozen=True, slots=True)
class LogFilter:
    """Which entries a reader wants, None means all."""

    webhook_ids: frozenset[UUID] | None = None
    event_ids: frozenset[UUID] | None = None
    models: frozenset[str] | None = None
    kinds: frozenset[LogKind] | None = None

    def accepts(self, entry: LogEntry) -> bool:
        """Whether the entry is wanted."""
        return (
            (self.webhook_ids is None or entry.webhook_id in self.webhook_ids)
            and (self.event_ids is None or entry.event_id in self.event_ids)
            and (self.models is None or entry.model in self.models)
            and (self.kinds is None or entry.kind in self.kinds)
        )

    def conditions(self) -> dict[str, Any]:
        """The same as conditions of a query."""
        wanted = {
            "webhook_id__in": self.webhook_ids,
            "event_id__in": self.event_ids,
            "model__in": self.models,
            "kind__in": self.kinds,
        }
        return {name: list(values) for name, values in wanted.items() if values is not None}


def entry(
    kind: LogKind,
    message: str,
    *,
    at: dt.datetime,
    webhook_id: UUID,
    event_id: UUID,
    model: str,
    attempt_id: UUID | None = None,
) -> LogEntry:
    """A log row that is not yet saved."""
    return LogEntry(
        at=at, kind=kind, message=message, webhook_id=webhook_id, event_id=event_id, model=model, attempt_id=attempt_id
    )


async def epoch() -> UUID:
    """Which database this is."""
    return (await Installation.get(id=1)).epoch


async def newest(of_epoch: UUID) -> Position:
    """The position after the last entry that was committed, whether it is still kept or not."""
    # Where entries were trimmed, SQLite's own counter knows.
    query = f"SELECT seq FROM sqlite_sequence WHERE name = '{LogEntry._meta.db_table}'"
    rows = await LogEntry._meta.db.execute_query_dict(query)
    return Position(of_epoch, 0, rows[0]["seq"] if rows else 0)


async def check_resumable(position: Position, of_epoch: UUID) -> None:
    """Raises CursorExpired when entries after the position are gone, or were never in this database."""
    newest_row = (await newest(of_epoch)).row
    first = await LogEntry.all().order_by("id").first()
    oldest = Position(of_epoch, 0, first.id - 1 if first else newest_row)
    if position.epoch != of_epoch:
        raise CursorExpired("this cursor belongs to a database that was replaced", oldest.cursor())
    if position.row > newest_row:
        raise CursorExpired("this cursor is ahead of a database that was restored", oldest.cursor())
    if position.row < oldest.row:
        raise CursorExpired("the entries after this cursor are no longer kept", oldest.cursor())


async def after(position: Position, limit: int) -> list[LogEntry]:
    """The entries after a position, in commit order, at most `limit`."""
    return await LogEntry.filter(id__gt=position.row).order_by("id").limit(limit)


async def between(
    position: Position, until: Position, wanted: LogFilter, limit: int
) -> tuple[list[LogEntry], Position]:
    """The wanted entries after one position up to another, in commit order, at most `limit`, and how far was looked.

    One statement looks at MAX_SCANNED rows at most, so that a rare filter holds up nobody; go on from there.
    """
    last = min(until.row, position.row + MAX_SCANNED)
    query = LogEntry.filter(id__gt=position.row, id__lte=last, **wanted.conditions())
    found = await query.order_by("id").limit(limit)
    reached = found[-1].id if len(found) == limit else last
    return found, replace(position, row=reached)
