"""Search webhooks by name and URL, with the same result on every database.

Databases ignore case by different rules: SQLite for ASCII only, Postgres by the locale of the database. So the texts
are compared here.
"""

from uuid import UUID

from tortoise.queryset import QuerySet

from ringback.models.database.row_decoding import read_instances
from ringback.models.webhook import Webhook

#: Webhooks whose names and URLs are read by one statement.
BATCH_ROWS = 500


async def find_newest(webhooks: QuerySet[Webhook], text: str, limit: int, below: UUID | None) -> list[Webhook]:
    """Return the newest of the given webhooks whose name or URL contains the text, ignoring case.

    Returns at most `limit` webhooks, with ids below `below` if it is given.
    """
    folded = text.casefold()
    ids: list[UUID] = []
    is_complete = False
    while len(ids) < limit and not is_complete:
        remaining = webhooks if below is None else webhooks.filter(id__lt=below)
        rows = await remaining.order_by("-id").limit(BATCH_ROWS).values_list("id", "name", "url")
        ids += [key for key, name, url in rows if folded in (name or "").casefold() or folded in url.casefold()]
        is_complete = len(rows) < BATCH_ROWS
        if not is_complete:
            below = rows[-1][0]
    if not ids:
        return []
    return await read_instances(webhooks.filter(id__in=ids[:limit]).order_by("-id"))
