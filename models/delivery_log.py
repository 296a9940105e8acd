"""The delivery log: one row for every transition, in commit order, from which the live log is read.

On SQLite an AUTOINCREMENT key under BEGIN IMMEDIATE grows in commit order. On Postgres keys are given out before they
are committed, so each entry carries the number of its transaction, and only what lies below the oldest transaction that
still runs is read: nothing can come before it any more. A transaction that writes for long holds up the live log, but
nothing is lost or out of order.

A cursor names the database (its epoch, made with it), the transaction and the row, so a cursor from a database that was
replaced is recognised.
"""

import base64
import binascii
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from tortoise import fields
from tortoise.expressions import Q
from tortoise.indexes import Index
from tortoise.models import Model
from tortoise.queryset import QuerySet

from ringback.models.database.sql import fetch, is_postgres
from ringback.models.enums import LogKind
from ringback.models.errors import CursorExpired, CursorInvalid
from ringback.models.ids import new_key

#: Rows that one statement looks at when it reads with a filter.
MAX_SCANNED = 20_000


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
    #: Postgres's number of the transaction that wrote it, 0 on SQLite.
    transaction = fields.BigIntField(db_default=0)

    class Meta:
        table = "ringback_log"
        app = "ringback"
        # One webhook's entries among a million: 0.4 ms instead of 300, for 10 µs more at each write.
        # Postgres has one in commit order instead (migration 0001).
        indexes = (Index(fields=("webhook_id", "id")),)


class Installation(Model):
    """The one row that tells this database from every other."""

    id = fields.IntField(primary_key=True, generated=False)
    epoch = fields.UUIDField()
    created_at = fields.DatetimeField()
    #: The Postgres server and database that it was last seen in, null on SQLite.
    server = fields.CharField(max_length=64, null=True)

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


async def epoch() -> UUID:
    """Which database this is."""
    return (await Installation.get(id=1)).epoch


def place(of: LogEntry, of_epoch: UUID) -> Position:
    """Where an entry stands."""
    return Position(of_epoch, of.transaction, of.id)


async def newest(of_epoch: UUID) -> Position:
    """The position after the last entry that can be read, whether it is still kept or not."""
    settled = await _settled()
    # Whatever row comes last of those that can be read, none has a greater number than was made yet.
    return Position(of_epoch, settled.before - 1 if settled else 0, await _rows_made())


async def check_resumable(position: Position, of_epoch: UUID) -> None:
    """Raises CursorExpired when entries after the position are gone, or were never in this database."""
    # The end is read first: an entry that is committed between the two statements makes no cursor look expired.
    end = await newest(of_epoch)
    first = await _in_order(LogEntry.all()).first()
    oldest = await _just_before(first, of_epoch) if first else end
    if position.epoch != of_epoch:
        raise CursorExpired("this cursor belongs to a database that was replaced", oldest.cursor())
    if position > end:
        raise CursorExpired("this cursor is ahead of a database that was restored", oldest.cursor())
    if position < oldest if first else position.row < end.row:
        raise CursorExpired("the entries after this cursor are no longer kept", oldest.cursor())


async def _just_before(first: LogEntry, of_epoch: UUID) -> Position:
    """The place from which nothing is missed; where the very first entry is kept, the beginning of all."""
    if first.id == 1 or await LogEntry.exists(id=1):
        return Position(of_epoch, 0, 0)
    return Position(of_epoch, first.transaction, first.id - 1)


async def tail(position: Position, limit: int) -> tuple[list[LogEntry], bool]:
    """The entries after a position, in commit order, at most `limit`, and whether more are waiting.

    Those can only be read when a transaction ends that began before theirs did.
    """
    settled = await _settled()
    query = LogEntry.filter(_after(position))
    if settled is not None:
        query = query.filter(transaction__lt=settled.before)
    return await _in_order(query).limit(limit), settled is not None and settled.waiting


async def between(
    position: Position, until: Position, wanted: LogFilter, limit: int
) -> tuple[list[LogEntry], Position]:
    """The wanted entries after one position up to another, in commit order, at most `limit`, and how far was looked.

    One statement looks at MAX_SCANNED rows at most, so that a rare filter holds up nobody; go on from there.
    """
    last = await _reach(position, until)
    query = LogEntry.filter(_after(position), _up_to(last), **wanted.conditions())
    found = await _in_order(query).limit(limit)
    return found, place(found[-1], position.epoch) if len(found) == limit else last


async def recognise() -> None:
    """See whether this database was moved to another server since it was last opened; if so, it begins a new epoch.

    Transactions are numbered by each server anew: what came along stands before all that is written from now on.
    """
    db = LogEntry._meta.db
    if not is_postgres(db):
        return
    (row,) = await fetch(db, _SERVER)
    installation = await Installation.get(id=1, using_db=db)
    if installation.server == row["server"]:
        return
    if installation.server is not None:
        installation.epoch = new_key()
        await LogEntry.all().using_db(db).update(transaction=0)
    installation.server = row["server"]
    await installation.save(using_db=db)


@dataclass(frozen=True, slots=True)
class _Settled:
    """On Postgres: all transactions `before` this one have ended; `waiting` says whether others wrote entries too."""

    before: int
    waiting: bool


_SETTLED = """
WITH settled AS (SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS before)
SELECT before, before <= (SELECT transaction FROM ringback_log ORDER BY transaction DESC, id DESC LIMIT 1) AS waiting
FROM settled
"""
_SERVER = """
SELECT system_identifier || '/' || (SELECT oid FROM pg_database WHERE datname = current_database()) AS server
FROM pg_control_system()
"""


async def _settled() -> _Settled | None:
    """None on SQLite, where transactions commit in the order of their rows."""
    db = LogEntry._meta.db
    if not is_postgres(db):
        return None
    (row,) = await fetch(db, _SETTLED)
    return _Settled(row["before"], bool(row["waiting"]))


async def _rows_made() -> int:
    """The key of the last entry that was ever made: where entries were trimmed, the database's own counter knows."""
    db = LogEntry._meta.db
    if is_postgres(db):
        rows = await fetch(db, "SELECT CASE WHEN is_called THEN last_value ELSE 0 END AS seq FROM ringback_log_id_seq")
    else:
        rows = await fetch(db, "SELECT seq FROM sqlite_sequence WHERE name = 'ringback_log'")
    return rows[0]["seq"] if rows else 0


async def _reach(position: Position, until: Position) -> Position:
    """The last of the next MAX_SCANNED places, at most `until`."""
    if not is_postgres(LogEntry._meta.db):
        return replace(until, row=min(until.row, position.row + MAX_SCANNED))
    last = await _in_order(LogEntry.filter(_after(position), _up_to(until))).offset(MAX_SCANNED - 1).first()
    return place(last, position.epoch) if last else until


def _in_order(query: QuerySet[LogEntry]) -> QuerySet[LogEntry]:
    return query.order_by("transaction", "id") if is_postgres(LogEntry._meta.db) else query.order_by("id")


def _after(position: Position) -> Q:
    if not is_postgres(LogEntry._meta.db):
        return Q(id__gt=position.row)
    later = Q(transaction__gt=position.transaction) | Q(id__gt=position.row)
    return Q(later, transaction__gte=position.transaction)  # the range that an index finds, less its beginning


def _up_to(position: Position) -> Q:
    if not is_postgres(LogEntry._meta.db):
        return Q(id__lte=position.row)
    earlier = Q(transaction__lt=position.transaction) | Q(id__lte=position.row)
    return Q(earlier, transaction__lte=position.transaction)
