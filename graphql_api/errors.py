"""Errors as clients see them: InputErrors within payloads, declared top-level errors, and everything else masked.

InputError            in a mutation's payload: what a person can mend; nothing was written
ApiError              a top-level error on purpose, with `extensions.code`
GRAPHQL_… errors      a document that does not parse or validate; the specification's own messages
INTERNAL              anything else: the client sees an id, the program's log has the same id and the traceback
"""

from typing import Any, Literal

import structlog
from graphql import GraphQLError, GraphQLSyntaxError
from tortoise.exceptions import DBConnectionError

from ringback.models.errors import CursorExpired, CursorInvalid
from ringback.models.ids import new_key

logger = structlog.get_logger("ringback.api")

Code = Literal[
    "BAD_REQUEST",
    "BAD_USER_INPUT",
    "CURSOR_BEHIND",
    "CURSOR_EXPIRED",
    "GRAPHQL_PARSE_FAILED",
    "GRAPHQL_VALIDATION_FAILED",
    "INTERNAL",
    "LIMIT_EXCEEDED",
    "TOO_LARGE",
    "UNAUTHENTICATED",
]
#: The longest message about a document or its variables, in characters.
MAX_MESSAGE = 1_000


class ApiError(GraphQLError):
    """A declared top-level error; `code` becomes `extensions.code`."""

    def __init__(self, code: Code, message: str, **extensions: Any) -> None:
        super().__init__(message, extensions={"code": code, **extensions})


def bad_user_input(message: str) -> ApiError:
    """A malformed id, page size, cursor or range in a query."""
    return ApiError("BAD_USER_INPUT", message)


def unauthenticated() -> ApiError:
    """No valid token."""
    return ApiError(
        "UNAUTHENTICATED",
        "Send a valid API token: the header `Authorization: Bearer <token>`, or the same in connection_init.",
    )


def cursor_error(error: CursorInvalid) -> ApiError:
    """What a reader of the live log is told about its cursor."""
    if isinstance(error, CursorExpired):
        return ApiError(
            "CURSOR_EXPIRED", f"{error}: resume from oldestCursor, or without a cursor.", oldestCursor=error.oldest
        )
    return bad_user_input(f"after: {error}")


def mask_error(error: GraphQLError, *, executing: bool = True) -> GraphQLError:
    """The error as a client may see it: declared ones as they are, everything else as INTERNAL with an id.

    `executing` tells that the document was valid, so that an error without a path lies in its variables.
    """
    declared = _declared(error)
    if declared is not None:
        return GraphQLError(declared.message, error.nodes, path=error.path, extensions=declared.extensions)
    if isinstance(error, GraphQLSyntaxError):
        return _with_code(error, "GRAPHQL_PARSE_FAILED")
    cause = _cause(error)
    if cause is None or (error.path is None and _refused_by_a_type(error, cause)):
        return _with_code(error, "BAD_USER_INPUT" if executing else "GRAPHQL_VALIDATION_FAILED")
    error_id = new_key().hex
    logger.error("internal error", action="execute", error_id=error_id, path=error.path, exc_info=cause)
    what = (
        "The server's database does not answer, so try again"
        if is_database_away(cause)
        else "Something went wrong on the server"
    )
    return GraphQLError(
        f"{what}; its log has the details under the id {error_id}.",
        error.nodes,
        path=error.path,
        extensions={"code": "INTERNAL", "id": error_id},
    )


def is_database_away(error: BaseException) -> bool:
    """Whether it is the database that is away; everything is as it should be when it is back."""
    return isinstance(error, DBConnectionError)


def to_graphql_error(error: Exception) -> GraphQLError:
    """Any exception as a client may see it."""
    return mask_error(error if isinstance(error, GraphQLError) else GraphQLError(str(error), original_error=error))


def _declared(error: GraphQLError) -> ApiError | None:
    found: BaseException | None = error
    while isinstance(found, GraphQLError):
        if isinstance(found, ApiError):
            return found
        found = found.original_error
    return None


def _cause(error: GraphQLError) -> BaseException | None:
    """The exception that the server is to blame for; None when the error is the client's own doing."""
    found: BaseException = error
    while isinstance(found, GraphQLError) and found.original_error is not None:
        found = found.original_error
    if not isinstance(found, GraphQLError):
        return found
    # One within the answer that points at no place of the document is no argument's: a resolver raised it, or gave what
    # its field's type cannot represent.
    return found if error.path is not None and found.nodes is None else None


def _refused_by_a_type(error: GraphQLError, cause: BaseException) -> bool:
    """Whether a scalar of ours refused a literal or a variable: its sentence is part of the message."""
    return isinstance(cause, ValueError) and str(cause) in error.message


def _with_code(error: GraphQLError, code: Code) -> GraphQLError:
    if len(error.message) > MAX_MESSAGE:  # it quotes what was sent
        error.message = f"{error.message[:MAX_MESSAGE]}…"
    if "code" not in (error.extensions or {}):
        error.extensions = {**(error.extensions or {}), "code": code}
    return error
