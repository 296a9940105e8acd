"""How values become text in output, captures and filters.

As in Liquid, None is empty, booleans are true and false, and a range prints as `1..3`. Objects and lists print as
compact JSON; python-liquid would print Python's repr. A decimal is text in JSON, as in the snapshot.
"""

import json

from liquid import Undefined

from ringback.models.templates.budget import MAX_TEXT, LimitReached, Refusal
from ringback.models.templates.decimals import DecimalValue


def to_text(value: object) -> str:
    """Return the text that `{{ value }}` prints.

    Raises UndefinedError for an undefined name, and Refusal for a structure that is too large or not JSON.
    """
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict | list | tuple):
        return to_json(value)
    if isinstance(value, range):
        return f"{value.start}..{value.stop - 1}"
    return str(value)


def to_json(value: object) -> str:
    """Return compact JSON with non-ASCII characters unescaped. Raises Refusal for values that JSON cannot represent."""
    if estimate_length(value) > MAX_TEXT:
        raise LimitReached(f"The value has more than {MAX_TEXT:,} characters")
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=_to_json_type)
    except (TypeError, ValueError) as error:
        raise Refusal("The value cannot be written as JSON") from error


def estimate_length(value: object) -> int:
    """Return about how many characters `value` has as text, stopping soon after MAX_TEXT.

    A value that is referenced twice counts twice, because a template can put one long text into a list many times.
    """
    length = 0
    pending = [value]
    while pending and length <= MAX_TEXT:
        current = pending.pop()
        length += 1
        if isinstance(current, str):
            length += len(current)
        elif isinstance(current, dict):
            length += sum(len(key) for key in current if isinstance(key, str))
            pending.extend(current.values())
        elif isinstance(current, list | tuple):
            pending.extend(current)
        elif isinstance(current, int):
            length += current.bit_length() // 3
        elif isinstance(current, DecimalValue):
            length += len(str(current))
    return length


def format_path(path: list[object]) -> str:
    """Return a path as it is written in Liquid, such as `item.items[0].name`."""
    text = str(path[0])
    for segment in path[1:]:
        if isinstance(segment, list):
            text += f"[{format_path(segment)}]"
        elif isinstance(segment, str) and segment.replace("-", "_").isidentifier():
            text += f".{segment}"
        elif isinstance(segment, str | int):
            text += f"[{json.dumps(segment, ensure_ascii=False)}]"
        else:
            text += "[…]"
    return text


def _to_json_type(value: object) -> object:
    """Convert the types that Liquid adds to those of JSON. Raises UndefinedError and TypeError."""
    if isinstance(value, range):
        return list(value)
    if isinstance(value, DecimalValue):
        return value.source
    if isinstance(value, Undefined):
        return str(value)  # raises UndefinedError with the path
    raise TypeError
