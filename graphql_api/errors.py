"""Errors as clients see them.

InputError            in the payload of a mutation: a mistake in the input that the caller can fix; nothing was written
ApiError              a declared top-level error, with its code in `extensions.code`
GRAPHQL_… codes       a document that does not parse or validate, with the message of graphql-core
INTERNAL              any other error: the client gets an id; the server's log has the same id and the traceback
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
    "TOO_MANY_REQUESTS",
    "UNAUTHENTICATED",
]
#: Characters of a message, at most: messages of graphql-core quote the document and its variables.
MAX_MESSAGE = 1_000

_TOKEN_SOURCES = "`ringback token create NAME` creates a token, and `make run` prints one at its first start."


class ApiError(GraphQLError):
    """A declared top-level error. `code` becomes `extensions.code`."""

    def __init__(self, code: Code, message: str, **extensions: Any) -> None:
        super().__init__(message, extensions={"code": code, **extensions})


def bad_user_input(message: str) -> ApiError:
    """Return the error for a malformed id, page size, cursor or range in a query."""
    return ApiError("BAD_USER_INPUT", message)


def missing_token_error() -> ApiError:
    """Return the error for an `Authorization` header that is missing or has no bearer token."""
    return ApiError(
        "UNAUTHENTICATED",
        f"The request has no API token. Send the header `Authorization: Bearer <API token>`. {_TOKEN_SOURCES}",
    )


def unauthenticated_error() -> ApiError:
    """Return the error for a token that is unknown, revoked or expired. It does not say which of them."""
    return ApiError(
        "UNAUTHENTICATED",
        f"The API token is not valid: it is unknown, was revoked, or has expired. Send another one. {_TOKEN_SOURCES}",
    )


def unchecked_token_error(cause: Exception) -> GraphQLError:
    """Return the error for a token that cannot be checked. It tells a stranger nothing about the cause."""
    error_id = new_key().hex
    logger.error("cannot check a token", action="authenticate", error_id=error_id, exc_info=cause)
    message = f"The server cannot check the token now. Try again. Its log has the details under id {error_id}."
    return GraphQLError(message, extensions={"code": "INTERNAL", "id": error_id})


def cursor_error(error: CursorInvalid) -> ApiError:
    """Return the error for an invalid or expired cursor of the live log."""
    if isinstance(error, CursorExpired):
        message = f"after: {error}. Subscribe again with `after` set to `extensions.oldestCursor`, or without `after`."
        return ApiError("CURSOR_EXPIRED", message, oldestCursor=error.oldest)
    return bad_user_input(f"after: {error}")


def mask_error(error: GraphQLError, *, executing: bool = True) -> GraphQLError:
    """Return an error that is safe to send: declared and GraphQL errors as they are, any other as INTERNAL with an id.

    `executing` means that the document is valid, so an error without a path is one of its variables.
    """
    declared = _find_declared(error)
    if declared is not None:
        return GraphQLError(declared.message, error.nodes, path=error.path, extensions=declared.extensions)
    if isinstance(error, GraphQLSyntaxError):
        return _with_code(error, "GRAPHQL_PARSE_FAILED")
    cause = _find_internal_cause(error)
    if cause is None or (error.path is None and _is_scalar_refusal(error, cause)):
        if executing:
            return _with_code(error, "BAD_USER_INPUT")
        return _with_code(error, "GRAPHQL_VALIDATION_FAILED")
    error_id = new_key().hex
    logger.error("internal error", action="execute", error_id=error_id, path=error.path, exc_info=cause)
    return GraphQLError(
        _internal_message(cause, error_id),
        error.nodes,
        path=error.path,
        extensions={"code": "INTERNAL", "id": error_id},
    )


def is_database_unreachable(error: BaseException) -> bool:
    """Return whether an error means that the database cannot be reached, so that a later try may succeed."""
    return isinstance(error, DBConnectionError)


def to_graphql_error(error: Exception) -> GraphQLError:
    """Return any exception as an error that is safe to send."""
    if not isinstance(error, GraphQLError):
        error = GraphQLError(str(error), original_error=error)
    return mask_error(error)


def _find_declared(error: GraphQLError) -> ApiError | None:
    original: BaseException | None = error
    while isinstance(original, GraphQLError):
        if isinstance(original, ApiError):
            return original
        original = original.original_error
    return None


def _find_internal_cause(error: GraphQLError) -> BaseException | None:
    """Return the exception for which the server is to blame, or None if the client is."""
    original: BaseException = error
    while isinstance(original, GraphQLError) and original.original_error is not None:
        original = original.original_error
    if not isinstance(original, GraphQLError):
        return original
    # A GraphQLError with a path but no nodes comes from a resolver, or from a value that does not fit the field's type.
    # Errors of arguments have nodes.
    if error.path is not None and original.nodes is None:
        return original
    return None


def _is_scalar_refusal(error: GraphQLError, cause: BaseException) -> bool:
    """Return whether one of our scalars refused a literal or a variable. Then its message is part of the error's."""
    return isinstance(cause, ValueError) and str(cause) in error.message


def _internal_message(cause: BaseException, error_id: str) -> str:
    if is_database_unreachable(cause):
        return (
            f"The server's database does not answer. Try again. The server's log has the details under id {error_id}."
        )
    return f"Something went wrong on the server. Its log has the details under id {error_id}."


def _with_code(error: GraphQLError, code: Code) -> GraphQLError:
    if len(error.message) > MAX_MESSAGE:
        error.message = f"{error.message[:MAX_MESSAGE]}…"
    extensions = error.extensions or {}
    if "code" not in extensions:
        error.extensions = {**extensions, "code": code}
    return error
