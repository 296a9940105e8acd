"""What schemathesis needs to know of the API (SCHEMATHESIS_HOOKS): its scalars, ids that exist, and what must not be.

By itself it hardly ever hits an id that exists, or a cursor, and so sees little besides refusals. Half of its documents
are changed therefore: known ids stand where ids are asked for, and `after` is left out.
"""

import json
import os
from pathlib import Path
from typing import Any
from zlib import crc32

import schemathesis
from graphql import (
    REMOVE,
    ArgumentNode,
    DocumentNode,
    IntValueNode,
    ListValueNode,
    NameNode,
    ObjectFieldNode,
    StringValueNode,
    ValueNode,
    Visitor,
    print_ast,
    visit,
)
from hypothesis import strategies as st
from schemathesis.graphql import nodes

#: The file with the ids that exist, by the name of the argument or input field that takes them.
KNOWN_IDS = "RINGBACK_TEST_KNOWN_IDS"

_LEAVES: st.SearchStrategy[ValueNode] = st.one_of(
    st.booleans().map(nodes.Boolean), st.integers().map(nodes.Int), st.text(max_size=9).map(nodes.String)
)


def _list(leaves: list[ValueNode]) -> ListValueNode:
    """Return a list of these values."""
    return nodes.List(leaves)


schemathesis.graphql.scalar("Decimal", st.from_regex(r"\A-?[0-9]{1,12}(\.[0-9]{1,3})?\Z").map(nodes.String))
schemathesis.graphql.scalar("JSON", _LEAVES | st.lists(_LEAVES, max_size=3).map(_list))
schemathesis.graphql.scalar("Int", st.one_of(st.integers(1, 5), st.integers(-(2**31), 2**31 - 1)).map(nodes.Int))


class _Known(Visitor):
    """Puts what is known into a document; `chance` says which of the ids."""

    def __init__(self, known: dict[str, list[str]], chance: int) -> None:
        super().__init__()
        self._known = known
        self._chance = chance

    def enter_argument(self, node: ArgumentNode, *_: Any) -> Any:
        if node.name.value == "after":
            return REMOVE
        if node.name.value == "first":
            return ArgumentNode(name=node.name, value=IntValueNode(value="2"))
        return self._with_id(node)

    def enter_object_field(self, node: ObjectFieldNode, *_: Any) -> Any:
        return self._with_id(node)

    def _with_id(self, node: Any) -> Any:
        ids = self._known.get(node.name.value)
        if ids is None or not isinstance(node.value, StringValueNode):
            return None
        chosen = ids[self._chance % len(ids)]
        return type(node)(name=NameNode(value=node.name.value), value=StringValueNode(value=chosen))


@schemathesis.hook
def map_body(context: Any, body: DocumentNode) -> DocumentNode:
    """Half of the documents, changed."""
    chance = crc32(print_ast(body).encode("utf-8", "surrogatepass"))
    if chance % 2:
        return body
    known = json.loads(Path(os.environ[KNOWN_IDS]).read_text())
    changed: DocumentNode = visit(body, _Known(known, chance // 2))
    return changed


@schemathesis.check
def declared_errors_only(context: Any, response: Any, case: Any) -> None:
    """Every error has a code, which is not that of a server that failed."""
    assert response.status_code < 500, response.text
    for error in response.json().get("errors", ()):
        assert error["extensions"]["code"] != "INTERNAL", error
