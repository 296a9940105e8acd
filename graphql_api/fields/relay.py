"""Keyset connections (Relay Cursor Connections Specification), newest first, forward only.

A cursor is an id, and ids grow with time. So a page costs the same at any depth, and rows that are added meanwhile are
neither repeated nor do they shift others.
"""

import base64
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any, Generic, TypeAlias, TypeVar
from uuid import UUID

import strawberry
from tortoise.queryset import QuerySet

from ringback.graphql_api.errors import bad_user_input
from ringback.graphql_api.fields.attribute_field import RowObject
from ringback.graphql_api.fields.descriptions import object_type
from ringback.models.database.keyset import Page
from ringback.models.database.row_decoding import read_instances

N = TypeVar("N", bound="Node")
Row = TypeVar("Row", bound=Any)

#: Reads the newest rows of a list, at most a given number, below an id.
ReadNewest: TypeAlias = Callable[[int, UUID | None], Awaitable[Page[Row]]]

MAX_PAGE = 100
First = Annotated[int, strawberry.argument(description=f"Maximum number of nodes to return, from 1 to {MAX_PAGE}.")]
After = Annotated[
    str | None, strawberry.argument(description="`endCursor` of the previous page. Null for the first page.")
]


@strawberry.interface(description="An object that can be read again by its id: `node(id:)`.")
class Node(RowObject):
    """Node of Relay's Global Object Identification."""

    id: strawberry.ID = strawberry.field(description="Id, unique among all objects.")


@object_type
class PageInfo:
    """Position of a page in its list."""

    has_next_page: bool = strawberry.field(
        description="Whether older nodes follow. Request them with `after: endCursor`."
    )
    has_previous_page: bool = strawberry.field(description="Whether the page was requested with a cursor.")
    start_cursor: str | None = strawberry.field(
        description="Cursor of the first node of the page. Null if the page is empty."
    )
    end_cursor: str | None = strawberry.field(
        description="Cursor to request the next page with. Null if the page is empty and none follows."
    )


@object_type
class Edge(Generic[N]):
    """A node with its cursor."""

    cursor: str = strawberry.field(description="Cursor of the node. As `after`, it requests the nodes that follow.")
    node: N = strawberry.field(description="Object at this position of the list.")


@object_type
class Connection(Generic[N]):
    """A page of a list, newest first."""

    edges: list[Edge[N]] = strawberry.field(description="Nodes of the page with their cursors.")
    nodes: list[N] = strawberry.field(description="Nodes of the page.")
    page_info: PageInfo = strawberry.field(description="Position of the page in its list.")


async def read_page(rows: QuerySet[Row], first: int, after: str | None, node: Callable[[Row], N]) -> Connection[N]:
    """Return a page of `rows`. Raises BAD_USER_INPUT for a bad page size or cursor."""

    async def read_newest(limit: int, below: UUID | None) -> Page[Row]:
        matching = rows if below is None else rows.filter(id__lt=below)
        return Page(await read_instances(matching.order_by("-id").limit(limit)))

    return await read_merged_page([read_newest], first, after, node)


async def read_merged_page(
    parts: Sequence[ReadNewest[Row]], first: int, after: str | None, node: Callable[[Row], N]
) -> Connection[N]:
    """Return a page of a list whose rows come from several parts. Raises BAD_USER_INPUT as `read_page` does.

    No row is in two parts. If a part stops its scan before it has found enough rows, the page ends where it stopped,
    and may have fewer than `first` nodes.
    """
    if not 1 <= first <= MAX_PAGE:
        raise bad_user_input(f"first is {first}. Enter a number from 1 to {MAX_PAGE}.")
    below = None if after is None else _decode_cursor(after)
    merged = _merge([await read_newest(first + 1, below) for read_newest in parts])
    edges = [Edge(cursor=_encode_cursor(row.id), node=node(row)) for row in merged.rows[:first]]
    has_more_rows = len(merged.rows) > first
    start_cursor = end_cursor = None
    if edges:
        start_cursor, end_cursor = edges[0].cursor, edges[-1].cursor
    if not has_more_rows and merged.scanned_to is not None:
        end_cursor = _encode_cursor(merged.scanned_to)
    return Connection(
        edges=edges,
        nodes=[edge.node for edge in edges],
        page_info=PageInfo(
            has_next_page=has_more_rows or merged.scanned_to is not None,
            has_previous_page=after is not None,
            start_cursor=start_cursor,
            end_cursor=end_cursor,
        ),
    )


def _merge(pages: Sequence[Page[Row]]) -> Page[Row]:
    """Return the rows of all pages, newest first, down to the id to which all pages are complete."""
    rows = [row for page in pages for row in page.rows]
    rows.sort(key=lambda row: row.id, reverse=True)
    scanned_to = max((page.scanned_to for page in pages if page.scanned_to is not None), default=None)
    if scanned_to is not None:
        rows = [row for row in rows if row.id >= scanned_to]
    return Page(rows, scanned_to)


def _encode_cursor(key: UUID) -> str:
    return base64.urlsafe_b64encode(key.bytes).decode().rstrip("=")


def _decode_cursor(cursor: str) -> UUID:
    padding = "=" * (-len(cursor) % 4)
    try:
        return UUID(bytes=base64.b64decode(cursor + padding, altchars=b"-_", validate=True))
    except ValueError as error:
        message = f"after is {cursor[:80]!r}, which is not a cursor of this list. Use the endCursor of a page."
        raise bad_user_input(message) from error
