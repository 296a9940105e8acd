"""Completions: what makes a value fit for the answer, as its type says, made into one function for each type.

They do what graphql-core does for each value of each field ("Value Completion" in the specification, 6.4.3), and know
no errors: what does not fit raises `Unfit`, and graphql-core finds the words for it.
"""

from collections.abc import Callable
from enum import Enum
from typing import Any, TypeAlias

from graphql import GraphQLEnumType, Undefined
from graphql.type import GraphQLBoolean, GraphQLID, GraphQLString, is_leaf_type, is_list_type, is_non_null_type

Read: TypeAlias = Callable[[Any], Any]

#: Leaves that are answered as they are.
_PLAIN = {GraphQLString: str, GraphQLID: str, GraphQLBoolean: bool}


class Unfit(Exception):
    """A value is not as its type says."""


def make_reader(get: Read, kind: Any, below: Read | None) -> Read | None:
    """What reads a field of an object: `get` its value, and complete it as one of a type.

    `below` reads an object that the type names; None, where it cannot, and then this is None too.
    """
    nullable = not is_non_null_type(kind)
    inner = kind if nullable else kind.of_type
    if inner in _PLAIN:
        return _plain_reader(get, _PLAIN[inner], nullable=nullable)
    complete = _completion(inner, below)
    if complete is None:
        return None

    def read(source: Any) -> Any:
        value = get(source)
        if value is None:
            if nullable:
                return None
            raise Unfit
        return complete(value)

    return read


def _plain_reader(get: Read, kind: type, *, nullable: bool) -> Read:
    fit = (kind, type(None)) if nullable else (kind,)

    def read(source: Any) -> Any:
        value = get(source)
        if type(value) in fit:
            return value
        raise Unfit

    return read


def _completion(kind: Any, below: Read | None) -> Read | None:
    """What completes a value that is not null, of a type that may be."""
    if is_list_type(kind):
        item = make_reader(_itself, kind.of_type, below)
        return None if item is None else _list_completion(item)
    if isinstance(kind, GraphQLEnumType):
        return _enum_completion(kind)
    return _scalar_completion(kind) if is_leaf_type(kind) else below


def _itself(value: Any) -> Any:
    return value


def _list_completion(item: Read) -> Read:
    def complete(values: Any) -> list[Any]:
        if not isinstance(values, list):
            raise Unfit
        return [item(value) for value in values]

    return complete


def _enum_completion(kind: GraphQLEnumType) -> Read:
    names: dict[Enum, str] = {}

    def complete(value: Any) -> str:
        name = names.get(value)
        if name is None:
            name = names[value] = kind.coerce_output_value(value)
        return name

    return complete


def _scalar_completion(kind: Any) -> Read:
    coerce = kind.coerce_output_value

    def complete(value: Any) -> Any:
        coerced = coerce(value)
        if coerced is None or coerced is Undefined:
            raise Unfit
        return coerced

    return complete
