"""Keyset connections (Relay's Cursor Connections Specification), newest first, forward only.

Ids grow with time, so a page is "the rows whose id is below the cursor": its cost does not grow with its depth, and
rows that are added meanwhile neither repeat nor shift others.
"""

import base64
import binascii
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any, Generic, TypeVar
from uuid import UUID

import strawberry
from tortoise.queryset import QuerySet

from ringback.graphql_api.errors import bad_user_input
from ringback.graphql_api.fields.attribute_field import RowObject
from ringback.models.database.keyset import Page
from ringback.models.database.row_decoding import read

N = TypeVar("N", bound="Node")
Row = TypeVar("Row", bound=Any)

MAX_PAGE = 100
First = Annotated[int, strawberry.argument(description=f"How many at most, from 1 to {MAX_PAGE}.")]
After = Annotated[
    str | None,
    strawberry.argument(description="The `endCursor` of the page before; without it, the newest come first."),
]


@strawberry.interface(description="What has an id of its own, and can be asked for again by it: `node(id:)`.")
class Node(RowObject):
    """The Relay specification's Node (Global Object Identification)."""

    id: strawberry.ID = strawberry.field(description="Its id, unique among all objects.")


@strawberry.type(description="Where a page stands within its list.")
class PageInfo:
    """The Relay specification's PageInfo."""

    has_next_page: bool = strawberry.field(description="Whether there are older ones; ask with `after: endCursor`.")
    has_previous_page: bool = strawberry.field(description="Whether this page was asked for with a cursor.")
    start_cursor: str | None = strawberry.field(
        description="The cursor of the page's first node; null on an empty page."
    )
    end_cursor: str | None = strawberry.field(description="The cursor of the page's last node; null on an empty page.")


@strawberry.type(description="A node with its place in the list.")
class Edge(Generic[N]):
    """The Relay specification's Edge."""

    cursor: str = strawberry.field(description="The node's place; give it as `after` to go on behind it.")
    node: N = strawberry.field(description="The node itself.")


@strawberry.type(description="One page of a list, newest first.")
class Connection(Generic[N]):
    """The Relay specification's Connection, with `nodes` for those who need no cursors."""

    edges: list[Edge[N]] = strawberry.field(description="The page's nodes with their cursors.")
    nodes: list[N] = strawberry.field(description="The page's nodes.")
    page_info: PageInfo = strawberry.field(description="Where this page stands.")


async def page(rows: QuerySet[Row], first: int, after: str | None, node: Callable[[Row], N]) -> Connection[N]:
    """The page of `rows` behind a cursor; raises a BAD_USER_INPUT error for a bad size or cursor."""

    async def newest(limit: int, below: UUID | None) -> Page[Row]:
        return Page(await read((rows if below is None else rows.filter(id__lt=below)).order_by("-id").limit(limit)))

    return await page_of([newest], first, after, node)


async def page_of(
    parts: Sequence[Callable[[int, UUID | None], Awaitable[Page[Row]]]],
    first: int,
    after: str | None,
    node: Callable[[Row], N],
) -> Connection[N]:
    """The same of a list in parts that have no rows in common; each gives its newest, at most so many, below a key.

    Where a part was not looked through to its end, the page ends there too, however few nodes it has.
    """
    if not 1 <= first <= MAX_PAGE:
        raise bad_user_input(f"first: must be from 1 to {MAX_PAGE}")
    below = None if after is None else _key(after)
    parts_found = [await newest(first + 1, below) for newest in parts]
    found = [row for part in parts_found for row in part.rows]
    looked_to = max((part.scanned_to for part in parts_found if part.scanned_to is not None), default=None)
    if len(parts) > 1:
        found.sort(key=lambda row: row.id, reverse=True)
    if looked_to is not None:
        found = [row for row in found if row.id >= looked_to]
    edges = [Edge(cursor=_cursor(row.id), node=node(row)) for row in found[:first]]
    ends_early = len(found) <= first and looked_to is not None
    return Connection(
        edges=edges,
        nodes=[edge.node for edge in edges],
        page_info=PageInfo(
            has_next_page=len(found) > first or ends_early,
            has_previous_page=after is not None,
            start_cursor=edges[0].cursor if edges else None,
            end_cursor=_cursor(looked_to) if ends_early and looked_to else edges[-1].cursor if edges else None,
        ),
    )


def _cursor(key: UUID) -> str:
    return base64.urlsafe_b64encode(key.bytes).decode().rstrip("=")


def _key(cursor: str) -> UUID:
    try:
        return UUID(bytes=base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True))
    except (ValueError, binascii.Error) as error:
        raise bad_user_input(f"after: {cursor[:80]!r} is not a cursor of this list") from error
