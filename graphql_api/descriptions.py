"""Descriptions: what GraphiQL's documentation, and every client's editor, shows of the schema. They are Markdown.

A root field's description ends with an example, a whole document that can be pasted; a test checks each against the
schema.
"""

from textwrap import dedent

#: What an id looks like behind its prefix.
SUFFIX = "01h455vb4pex5vsknk084sn02q"


def described(prose: str, example: str) -> str:
    """A root field's description: what it does, and how it is asked for."""
    return f"{prose}\n\n```graphql\n{dedent(example).strip()}\n```"


def like(prefix: str, prose: str = "") -> str:
    """The description of an id, such as `evt_01h455vb4pex5vsknk084sn02q`."""
    return f"Such as `{prefix}_{SUFFIX}`{prose}."
