"""Errors as clients see them: InputErrors within payloads, declared top-level errors, and everything else masked.

InputError            in a mutation's payload: what a person can mend; nothing was written
ApiError              a top-level error on purpose, with `extensions.code`
GRAPHQL_… errors      a document that does not parse or validate; the specification's own messages
INTERNAL              anything else: the client sees an id, the program's log has the same id and the traceback
"""

import re
from collections.abc import Awaitable, Callable, Iterator
from enum import Enum
from typing import Any, TypeVar

import strawberry
import structlog
from graphql import GraphQLError, GraphQLSyntaxError
from ringback.models.errors import CursorExpired, CursorInvalid, InputRejected, Problem, ProblemCode
from ringback.models.ids import new_key
from strawberry.extensions import SchemaExtension

logger = structlog.get_logger("ringback.api")

P = TypeVar("P")


@strawberry.enum(description="What kind of mistake an InputError is; values may be added.")
class InputErrorCode(Enum):
    """The contract's codes."""

    INVALID = strawberry.enum_value("INVALID", description="The value is not allowed.")
    NOT_FOUND = strawberry.enum_value("NOT_FOUND", description="It names something that does not exist.")
    CONFLICT = strawberry.enum_value("CONFLICT", description="The state of the object does not allow it now.")
    TOO_LARGE = strawberry.enum_value("TOO_LARGE", description="It is over a limit of size or number.")


@strawberry.type(description="One thing in a mutation's input that a person can mend. Nothing was written.")
class InputError:
    """One Problem, as clients see it."""

    code: InputErrorCode = strawberry.field(description="What kind of mistake it is.")
    message: str = strawberry.field(description="A sentence that says what is wrong and what to do.")
    field: str | None = strawberry.field(
        description='Where, as a path such as "input.url" or "input.items[3].price"; null when no single field is to blame.'
    )


class ApiError(GraphQLError):
    """A declared top-level error; `code` becomes `extensions.code`."""

    def __init__(self, code: str, message: str, **extensions: Any) -> None:
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


def input_errors(rejected: InputRejected, prefix: str = "input") -> list[InputError]:
    """The problems of a refused input; fields become camelCase paths below `prefix`."""
    return [
        InputError(code=InputErrorCode[p.code.name], message=_sentence(p), field=_path(p, prefix))
        for p in rejected.problems
    ]


async def answered(kind: Callable[..., P], work: Awaitable[P], prefix: str = "input") -> P:
    """The payload that `work` makes, or one with the errors of the input that it refuses."""
    try:
        return await work
    except InputRejected as rejected:
        return kind(errors=input_errors(rejected, prefix))


def _path(problem: Problem, prefix: str) -> str | None:
    if problem.field is None:
        return None
    camel = re.sub(r"_([a-z0-9])", lambda match: match.group(1).upper(), problem.field)
    return f"{prefix}.{camel}" if prefix else camel


def _sentence(problem: Problem) -> str:
    """Problems that begin in the middle of a sentence ("must not be empty") get their field as the subject."""
    message = problem.message
    if problem.field is not None and problem.code is not ProblemCode.CONFLICT and message[:1].islower():
        subject = _path(problem, "") or ""
        message = f"{subject}: {message}"
    return message if message.endswith((".", "?", "!")) else f"{message}."


def masked(error: GraphQLError) -> GraphQLError:
    """The error as a client may see it: declared ones as they are, everything else as INTERNAL with an id."""
    original = error.original_error
    if isinstance(error, ApiError):
        return error
    if isinstance(original, ApiError):
        return GraphQLError(original.message, error.nodes, path=error.path, extensions=original.extensions)
    if isinstance(error, GraphQLSyntaxError):
        return _with_code(error, "GRAPHQL_PARSE_FAILED")
    if original is None or (isinstance(original, GraphQLError) and original.original_error is None):
        return _with_code(error, "GRAPHQL_VALIDATION_FAILED" if error.path is None else "BAD_USER_INPUT")
    error_id = new_key().hex
    logger.error("internal error", action="execute", error_id=error_id, path=error.path, exc_info=original)
    return GraphQLError(
        f"Something went wrong on the server; its log has the details under the id {error_id}.",
        error.nodes,
        path=error.path,
        extensions={"code": "INTERNAL", "id": error_id},
    )


def _with_code(error: GraphQLError, code: str) -> GraphQLError:
    if "code" not in (error.extensions or {}):
        error.extensions = {**(error.extensions or {}), "code": code}
    return error


class MaskErrors(SchemaExtension):
    """Masks the errors of every result, whether one or a stream of them."""

    def on_operation(self) -> Iterator[None]:
        """Queries and mutations."""
        yield
        self._mask(self.execution_context.result)

    def on_stream_result(self, result: Any) -> Iterator[None]:
        """Each result of a subscription, and what is executed over a WebSocket."""
        self._mask(result)
        yield

    def _mask(self, result: Any) -> None:
        errors = getattr(result, "errors", None)
        if errors:
            result.errors = [masked(error) for error in errors]
