"""Comparisons of different types that are never true or fail. They are refused when a webhook is saved."""

import json
from decimal import Decimal
from enum import Enum
from typing import NamedTuple

from ringback.models.templates.decimals import is_decimal
from ringback.models.templates.errors import quote


class Kind(Enum):
    """The kind of value that a comparison uses."""

    NUMBER = "number"
    TEXT = "text"
    BOOLEAN = "boolean"


class Operand(NamedTuple):
    """A side of a comparison as it is written. `kind` is None if it is unknown, `literal` if it is a field."""

    text: str
    kind: Kind | None
    literal: object = None
    #: Whether it is a field that is a decimal in templates.
    is_decimal: bool = False


_KINDS = {
    "boolean": Kind.BOOLEAN,
    **dict.fromkeys(("decimal", "float", "integer", "seconds"), Kind.NUMBER),
    **dict.fromkeys(("base64", "date", "datetime", "id", "string", "time"), Kind.TEXT),
}


def kind_of_type(name: str) -> Kind | None:
    """Return the kind of a field's type, such as "decimal"."""
    return _KINDS.get(name)


def kind_of_literal(value: object) -> Kind | None:
    """Return the kind of a literal."""
    if isinstance(value, str):
        return Kind.TEXT
    if isinstance(value, bool):
        return Kind.BOOLEAN
    if isinstance(value, int | float):
        return Kind.NUMBER
    return None


def describe_mixed_types(left: Operand, right: Operand, *, is_order: bool) -> str | None:
    """Return the message that two operands cannot be compared, or None. `is_order` excludes == and !=."""
    if left.literal is not None and (right.literal is None or left.kind is Kind.TEXT):
        left, right = right, left
    if left.kind is None or right.kind is None or left.kind is right.kind:
        return None
    if Kind.BOOLEAN in (left.kind, right.kind) and not _fails_with_boolean(left, right, is_order=is_order):
        return None
    mistake = f"The {left.kind.value} {quote(left.text)} is compared with the {right.kind.value} {_write(right)}"
    if right.literal is None:
        return f"{mistake}. Compare two numbers or two texts"
    if right.kind is Kind.NUMBER:
        return f'{mistake}. Write "{quote(right.text)}" in quotes'
    text = str(right.literal).strip()
    if is_decimal(text):
        return f"{mistake}. Write {Decimal(text):f} without quotes"
    return f"{mistake}. Compare it with a number, such as 1000"


def _fails_with_boolean(left: Operand, right: Operand, *, is_order: bool) -> bool:
    """Return whether a comparison with a boolean fails. Other numbers than decimals have an order with booleans."""
    return is_order and (left.is_decimal or right.is_decimal)


def _write(operand: Operand) -> str:
    """Return an operand as an author writes it."""
    if isinstance(operand.literal, str):
        return quote(json.dumps(operand.literal, ensure_ascii=False))
    return quote(operand.text)
