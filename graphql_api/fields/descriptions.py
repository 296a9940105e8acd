"""Descriptions: what GraphiQL's documentation, and every client's editor, shows of the schema. They are Markdown."""

from typing import Any

import strawberry

#: What an id looks like behind its prefix.
SUFFIX = "01h455vb4pex5vsknk084sn02q"


def id_description(prefix: str, prose: str = "") -> str:
    """The description of an id, such as `evt_01h455vb4pex5vsknk084sn02q`."""
    return f"Such as `{prefix}_{SUFFIX}`{prose}."


def optional_field(description: str, default: Any = None) -> Any:
    """Make a field that may be left out of an input, or is null in a payload with errors."""
    return strawberry.field(default=default, description=description)
