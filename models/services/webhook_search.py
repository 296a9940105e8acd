"""Search webhooks by name and URL, with the same result on every database.

Databases ignore case by different rules: SQLite for ASCII only, Postgres by the locale of the database. So the texts
are compared here.
"""

from uuid import UUID

from tortoise.queryset import QuerySet

from ringback.models.database.row_decoding import read_instances
from ringback.models.webhook import Webhook

#: Webhooks whose names and URLs are read by one statement. Comparing them takes up to 1 ms of the event loop.
BATCH_ROWS = 100


async def find_newest(webhooks: QuerySet[Webhook], text: str, limit: int, below: UUID | None) -> list[Webhook]:
    """Return the newest of the given webhooks whose name or URL contains the text, ignoring case.

    Returns at most `limit` webhooks, with ids below `below` if it is given. The URLs that are searched count towards
    the bytes that an operation may read.
    """
    folded = text.casefold()
    ids: list[UUID] = []
    is_complete = False
    while len(ids) < limit and not is_complete:
        remaining = webhooks if below is None else webhooks.filter(id__lt=below)
        rows = await read_instances(remaining.order_by("-id").limit(BATCH_ROWS).only("id", "name", "url"))
        ids += [row.id for row in rows if folded in (row.name or "").casefold() or folded in row.url.casefold()]
        is_complete = len(rows) < BATCH_ROWS
        if not is_complete:
            below = rows[-1].id
    if not ids:
        return []
    return await read_instances(webhooks.filter(id__in=ids[:limit]).order_by("-id"))
