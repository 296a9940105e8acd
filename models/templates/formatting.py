"""How values become text, in one place for output, captures and filters.

As in Liquid: None is empty, booleans are true and false, a range prints as `1..3`. Unlike Liquid and unlike
python-liquid (which would print Python's repr), an object or a list prints as compact JSON.
"""

import json

from liquid import Undefined

from ringback.models.templates.budget import MAX_TEXT, LimitReached, Refusal


def text_of(value: object) -> str:
    """Return what `{{ value }}` prints; raises UndefinedError for an unknown name, Refusal for a huge structure."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict | list | tuple):
        return json_of(value)
    if isinstance(value, range):
        return f"{value.start}..{value.stop - 1}"
    return str(value)


def json_of(value: object) -> str:
    """Return compact JSON, non-ASCII characters as they are; raises Refusal for what JSON cannot hold."""
    if weight(value) > MAX_TEXT:
        raise LimitReached(f"this value has more than {MAX_TEXT} characters")
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=_plain)
    except (TypeError, ValueError) as error:
        raise Refusal("this value cannot be written as JSON") from error


def weight(value: object) -> int:
    """Return about how many characters `value` has as text; the count stops soon after MAX_TEXT.

    Something that is referred to twice counts twice: a template can make a short list of one long text many times over.
    """
    total = 0
    pending = [value]
    while pending and total <= MAX_TEXT:
        one = pending.pop()
        total += 1
        if isinstance(one, str):
            total += len(one)
        elif isinstance(one, dict):
            total += sum(len(key) for key in one if isinstance(key, str))
            pending.extend(one.values())
        elif isinstance(one, list | tuple):
            pending.extend(one)
        elif isinstance(one, int):
            total += one.bit_length() // 3
    return total


def path_text(path: list[object]) -> str:
    """Return a path as it would be written in Liquid, such as `item.items[0].name`."""
    text = str(path[0])
    for segment in path[1:]:
        if isinstance(segment, list):
            text += f"[{path_text(segment)}]"
        elif isinstance(segment, str) and segment.replace("-", "_").isidentifier():
            text += f".{segment}"
        elif isinstance(segment, str | int):
            text += f"[{json.dumps(segment, ensure_ascii=False)}]"
        else:
            text += "[…]"
    return text


def _plain(value: object) -> object:
    """Turn what Liquid adds to JSON's types into one of them."""
    if isinstance(value, range):
        return list(value)
    if isinstance(value, Undefined):
        return str(value)  # raises, naming the path
    raise TypeError
