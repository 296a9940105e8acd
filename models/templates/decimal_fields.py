"""Conversion of a model's decimal fields in a snapshot, where a template needs them as numbers.

A decimal prints as stored either way, so a template that only prints converts nothing. Of an item, only those fields
are converted that the template computes with, sorts or compares (`number_use`).
"""

from collections.abc import Mapping

from ringback.models.templates.budget import Meter
from ringback.models.templates.decimals import read_decimal
from ringback.models.templates.field_paths import FieldShape

#: The types of fields that are decimals in templates. JSON numbers compute as decimals too, and stay numbers in JSON.
DECIMAL_OR_STRING = "decimal or string"
DECIMAL_TYPES = frozenset({"decimal", "float", DECIMAL_OR_STRING})
#: Elements of a list that are converted between two readings of the clock.
_VALUES_PER_TICK = 100
#: In the place of field names: all fields of the item.
ALL_FIELDS = frozenset({"*"})


class DecimalFields:
    """The decimal fields of a model, of which `types` are the types by path. False if there are none."""

    __slots__ = ("_fields", "_other")

    def __init__(self, types: Mapping[str, str]) -> None:
        item = FieldShape()
        root = FieldShape(names={"item": item})
        for path, name in types.items():
            shape = root.add(path)
            if name in DECIMAL_TYPES:
                shape.type = name
        _drop_others(item)
        #: The shapes of the item's fields that are decimals or hold some, by the names of the fields.
        self._fields: Mapping[str, FieldShape] = item.names
        #: The shape of the item's fields of any other name.
        self._other = item.other

    def __bool__(self) -> bool:
        return bool(self._fields) or self._other is not None

    def convert(self, scope: Mapping[str, object], used: frozenset[str], meter: Meter) -> Mapping[str, object]:
        """Return root names whose item has decimals in these fields. Nothing is changed in place. Raises TimeUp."""
        item = scope.get("item")
        fields = self._fields
        if self._other is not None and isinstance(item, dict):
            fields = {**dict.fromkeys(item, self._other), **fields}
        names = fields.keys() if used is ALL_FIELDS else fields.keys() & used
        if not names or not isinstance(item, dict):
            return scope
        converted = {name: _convert(item[name], fields[name], meter) for name in names if name in item}
        return {**scope, "item": {**item, **converted}}


def _drop_others(shape: FieldShape) -> bool:
    """Drop the parts of a shape that hold no decimals. Return whether it is or holds one.

    Named fields beside decimals of any other name stay, because they are not of their type.
    """
    if shape.element is not None and not _drop_others(shape.element):
        shape.element = None
    if shape.other is not None and not _drop_others(shape.other):
        shape.other = None
    decimal_names = {name: part for name, part in shape.names.items() if _drop_others(part)}
    if shape.other is None:
        shape.names = decimal_names
    return bool(shape.type or shape.element or shape.other or decimal_names)


def _convert(value: object, shape: FieldShape, meter: Meter) -> object:
    if type(value) is list:
        return value if shape.element is None else _convert_list(value, shape.element, meter)
    if type(value) is dict:
        if shape.other is None:
            converted = value.copy()
        else:
            converted = dict(zip(value, _convert_list(list(value.values()), shape.other, meter), strict=True))
        for name, part in shape.names.items():
            if name in value:
                converted[name] = _convert(value[name], part, meter)
        return converted
    return read_decimal(value) if shape.type else value


def _convert_list(values: list[object], element: FieldShape, meter: Meter) -> list[object]:
    converted: list[object] = []
    for start in range(0, len(values), _VALUES_PER_TICK):
        meter.tick()
        converted += [_convert(value, element, meter) for value in values[start : start + _VALUES_PER_TICK]]
    return converted


NO_DECIMALS = DecimalFields({})
