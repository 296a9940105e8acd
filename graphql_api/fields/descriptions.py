"""Descriptions of the schema, in Markdown, as GraphiQL and editors show them.

Types and root fields are described by their docstrings, so that the text stands once.
"""

from collections.abc import Callable
from typing import Any, TypeVar, dataclass_transform

import strawberry
from strawberry.types.field import StrawberryField

T = TypeVar("T", bound=type)

#: Part of an example id that follows its prefix.
SUFFIX = "01h455vb4pex5vsknk084sn02q"


@dataclass_transform(kw_only_default=True, field_specifiers=(strawberry.field, StrawberryField))
def object_type(cls: T) -> T:
    """Make a class a GraphQL object type, described by its docstring."""
    return strawberry.type(cls, description=describe_by_docstring(cls))


@dataclass_transform(kw_only_default=True, field_specifiers=(strawberry.field, StrawberryField))
def input_type(cls: T) -> T:
    """Make a class a GraphQL input type, described by its docstring."""
    return strawberry.input(cls, description=describe_by_docstring(cls))


def optional_field(description: str, default: Any = None) -> Any:
    """Make a field that an input may leave out, or that a payload with errors leaves null."""
    return strawberry.field(default=default, description=description)


def describe_id(noun_phrase: str, prefix: str) -> str:
    """Describe an id with an example, such as `evt_01h455vb4pex5vsknk084sn02q`."""
    return f"{noun_phrase}. Example: `{prefix}_{SUFFIX}`."


def describe_by_docstring(documented: type | Callable[..., Any]) -> str:
    """Return a docstring as one line."""
    assert documented.__doc__, f"{documented.__qualname__} needs a docstring: it is its description in the schema"
    return " ".join(documented.__doc__.split())
