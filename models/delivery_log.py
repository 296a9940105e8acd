"""The delivery log: one row for every state transition, read in commit order by the live log.

On SQLite an AUTOINCREMENT key under BEGIN IMMEDIATE grows in commit order. Postgres assigns keys before the commit, so
each entry also stores the number of its transaction, and readers stop before the oldest transaction that is still open:
no entry can be committed before that point any more. A long write transaction delays the live log, but no entry is lost
or out of order.

A cursor holds the epoch of the database, the transaction and the row. The epoch is made with the database, so a cursor
from a database that was replaced is recognized.
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

#: Rows that one statement with a filter reads at most, so that a rare filter does not block the database.
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
        # Finds one webhook's entries among a million in 0.4 ms instead of 300 ms, and costs 10 µs at each write.
        # Postgres has an index in commit order instead (migration 0001).
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
    """A position in the log. Later entries have greater positions.

    `transaction` is 0 on SQLite, where rows alone are in commit order.
    """

    epoch: UUID
    transaction: int
    row: int

    def cursor(self) -> str:
        """Return the position as a cursor for clients."""
        text = f"{self.epoch.hex}.{self.transaction:x}.{self.row:x}"
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")

    @classmethod
    def parse(cls, cursor: str) -> "Position":
        """Return the position of a cursor. Raises CursorInvalid."""
        try:
            text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode("ascii")
            epoch_hex, transaction_hex, row_hex = text.split(".")
            position = cls(epoch=UUID(hex=epoch_hex), transaction=int(transaction_hex, 16), row=int(row_hex, 16))
        except (ValueError, binascii.Error, UnicodeError) as error:
            raise CursorInvalid(f"{cursor!r:.120} is not a cursor of the delivery log") from error
        is_in_range = 0 <= position.row < 2**63 and 0 <= position.transaction < 2**63
        # Python's parsers accept more spellings than cursor() writes.
        if not is_in_range or position.cursor() != cursor:
            raise CursorInvalid(f"{cursor!r:.120} is not a cursor of the delivery log")
        return position


@dataclass(frozen=True, slots=True)
class LogFilter:
    """The entries that a reader wants. A field that is None matches all entries."""

    webhook_ids: frozenset[UUID] | None = None
    event_ids: frozenset[UUID] | None = None
    models: frozenset[str] | None = None
    kinds: frozenset[LogKind] | None = None

    def accepts(self, entry: LogEntry) -> bool:
        """Return whether the entry matches."""
        return (
            (self.webhook_ids is None or entry.webhook_id in self.webhook_ids)
            and (self.event_ids is None or entry.event_id in self.event_ids)
            and (self.models is None or entry.model in self.models)
            and (self.kinds is None or entry.kind in self.kinds)
        )

    def conditions(self) -> dict[str, Any]:
        """Return the filter as conditions of a Tortoise query."""
        accepted = {
            "webhook_id__in": self.webhook_ids,
            "event_id__in": self.event_ids,
            "model__in": self.models,
            "kind__in": self.kinds,
        }
        return {name: list(values) for name, values in accepted.items() if values is not None}


async def read_epoch() -> UUID:
    """Return the epoch of this database."""
    return (await Installation.get(id=1)).epoch


def get_position(entry: LogEntry, log_epoch: UUID) -> Position:
    """Return the position of an entry."""
    return Position(epoch=log_epoch, transaction=entry.transaction, row=entry.id)


async def read_end(log_epoch: UUID) -> Position:
    """Return a position at or after the last readable entry and before all entries that become readable later."""
    horizon = await _read_horizon()
    last_transaction = 0 if horizon is None else horizon.before - 1
    # The last readable row is unknown here. The highest id ever assigned is a safe upper limit.
    return Position(epoch=log_epoch, transaction=last_transaction, row=await _read_last_id())


async def check_resumable(position: Position, log_epoch: UUID) -> None:
    """Raise CursorExpired if entries after the position were deleted, or if it was never in this database."""
    # The end is read first, so that an entry committed between the two statements does not make a cursor look expired.
    end = await read_end(log_epoch)
    first = await _in_order(LogEntry.all()).first()
    if first is None:
        oldest = end
        is_trimmed = position.row < end.row
    else:
        oldest = await _position_before(first, log_epoch)
        is_trimmed = position < oldest
    if position.epoch != log_epoch:
        raise CursorExpired("this cursor belongs to a database that was replaced", oldest.cursor())
    if position > end:
        raise CursorExpired("this cursor is ahead of a database that was restored", oldest.cursor())
    if is_trimmed:
        raise CursorExpired("the entries after this cursor have been deleted", oldest.cursor())


async def _position_before(first: LogEntry, log_epoch: UUID) -> Position:
    """Return the position before the first stored entry; the start of the log if entry 1 is still stored."""
    if first.id == 1 or await LogEntry.exists(id=1):
        return Position(log_epoch, 0, 0)
    return Position(log_epoch, first.transaction, first.id - 1)


async def read_after(position: Position, limit: int) -> tuple[list[LogEntry], bool]:
    """Return at most `limit` entries after a position, in commit order, and whether entries are committed that
    cannot be read yet.

    Those become readable when all older transactions have ended. On SQLite there are none.
    """
    horizon = await _read_horizon()
    query = _in_order(LogEntry.filter(_after(position))).limit(limit)
    if horizon is None:
        return await query, False
    return await query.filter(transaction__lt=horizon.before), horizon.has_later_entries


async def read_between(
    position: Position, until: Position, log_filter: LogFilter, limit: int
) -> tuple[list[LogEntry], Position]:
    """Return at most `limit` matching entries in (position, until], in commit order, and the position reached.

    One call reads at most MAX_SCANNED rows. Call it again from the position reached until that is `until`.
    """
    last = await _find_scan_end(position, until)
    query = LogEntry.filter(_after(position), _up_to(last), **log_filter.conditions())
    entries = await _in_order(query).limit(limit)
    if len(entries) == limit:
        last = get_position(entries[-1], position.epoch)
    return entries, last


async def detect_move() -> None:
    """Start a new epoch if this database was moved to another server since it was last opened.

    Each server numbers transactions anew, so entries from the former server get number 0, before all later entries.
    """
    db = LogEntry._meta.db
    if not is_postgres(db):
        return
    (row,) = await fetch(db, _READ_SERVER)
    installation = await Installation.get(id=1, using_db=db)
    if installation.server == row["server"]:
        return
    if installation.server is not None:
        installation.epoch = new_key()
        await LogEntry.all().using_db(db).update(transaction=0)
    installation.server = row["server"]
    await installation.save(using_db=db)


@dataclass(frozen=True, slots=True)
class _Horizon:
    """The oldest transaction on Postgres that is still open: entries of transactions `before` it can be read."""

    before: int
    #: Whether this or later transactions have committed entries.
    has_later_entries: bool


#: The horizon, and whether the newest entry, by the index ringback_log_in_order, lies beyond it.
_READ_HORIZON = """
WITH horizon AS (SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS before)
SELECT before,
before <= (SELECT transaction FROM ringback_log ORDER BY transaction DESC, id DESC LIMIT 1) AS has_later_entries
FROM horizon
"""
#: A name of this database that no other database of this or another Postgres server has.
_READ_SERVER = """
SELECT system_identifier || '/' || (SELECT oid FROM pg_database WHERE datname = current_database()) AS server
FROM pg_control_system()
"""
#: The highest id ever assigned: the sequence still holds it when the entries have been deleted.
_READ_LAST_ID = "SELECT CASE WHEN is_called THEN last_value ELSE 0 END AS last_id FROM ringback_log_id_seq"
_READ_LAST_ID_ON_SQLITE = "SELECT seq AS last_id FROM sqlite_sequence WHERE name = 'ringback_log'"


async def _read_horizon() -> _Horizon | None:
    """Return the horizon on Postgres; None on SQLite, where transactions commit in the order of their rows."""
    db = LogEntry._meta.db
    if not is_postgres(db):
        return None
    (row,) = await fetch(db, _READ_HORIZON)
    return _Horizon(before=row["before"], has_later_entries=bool(row["has_later_entries"]))


async def _read_last_id() -> int:
    db = LogEntry._meta.db
    statement = _READ_LAST_ID if is_postgres(db) else _READ_LAST_ID_ON_SQLITE
    rows = await fetch(db, statement)
    return rows[0]["last_id"] if rows else 0


async def _find_scan_end(position: Position, until: Position) -> Position:
    """Return the position MAX_SCANNED rows after `position`, but at most `until`."""
    if not is_postgres(LogEntry._meta.db):
        return replace(until, row=min(until.row, position.row + MAX_SCANNED))
    last = await _in_order(LogEntry.filter(_after(position), _up_to(until))).offset(MAX_SCANNED - 1).first()
    return until if last is None else get_position(last, position.epoch)


def _in_order(query: QuerySet[LogEntry]) -> QuerySet[LogEntry]:
    if is_postgres(LogEntry._meta.db):
        return query.order_by("transaction", "id")
    return query.order_by("id")


def _after(position: Position) -> Q:
    if not is_postgres(LogEntry._meta.db):
        return Q(id__gt=position.row)
    later = Q(transaction__gt=position.transaction) | Q(id__gt=position.row)
    # The second condition is the one that an index can use; the first one only leaves out the start of its range.
    return Q(later, transaction__gte=position.transaction)


def _up_to(position: Position) -> Q:
    if not is_postgres(LogEntry._meta.db):
        return Q(id__lte=position.row)
    earlier = Q(transaction__lt=position.transaction) | Q(id__lte=position.row)
    return Q(earlier, transaction__lte=position.transaction)
