"""The schema as npm's tools see it: graphql-eslint finds nothing in it, graphql-inspector nothing that breaks clients.

`released.graphql` is the schema of the last release. What it has stays, `@deprecated` where it has had its day, until a
release that says in the CHANGELOG what it takes away; then `released.graphql` is made anew from `schema.graphql`.
"""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent.parent
TOOLS = Path(__file__).parent
SCHEMA = ROOT / "schema.graphql"
RELEASED = TOOLS / "released.graphql"
#: What breaks clients of the last release all the same, with the reason; empty again with the next one.
ACCEPTED = {
    "Change.changedFields": "begins with its type's name, which graphql-eslint refuses; it was never in the public "
    "contract, has the same values as Event.changedFields, and is Change.updatedFields now",
}


def run(script: str, *arguments: Path) -> list[dict[str, Any]]:
    """What a script of this folder prints; skips where npm's packages are missing."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("Node.js is missing: apt-get install nodejs npm")
    if not (TOOLS / "node_modules").exists():
        pytest.skip("the npm tools are not installed: make schema-tools")
    ended = subprocess.run([node, script, *map(str, arguments)], cwd=TOOLS, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    found: list[dict[str, Any]] = json.loads(ended.stdout)
    return found


def breaking(now: Path) -> list[tuple[str, str]]:
    return [(change["path"], change["message"]) for change in run("breaking.mjs", RELEASED, now)]


def changed(folder: Path, before: str, after: str) -> Path:
    """The released schema with one change."""
    text = RELEASED.read_text()
    assert text.count(before) == 1
    path = folder / "changed.graphql"
    path.write_text(text.replace(before, after))
    return path


def test_nothing_breaks_that_was_released() -> None:
    assert {path for path, _ in breaking(SCHEMA)} == ACCEPTED.keys()


@pytest.mark.parametrize(
    ("before", "after", "path", "message"),
    [
        ('"""Where it stands."""\n  status: EventStatus!\n', "", "Event.status", "removed from object type 'Event'"),
        ("  isTest: Boolean!\n", "  isTest: Boolean\n", "Event.isTest", "changed type from 'Boolean!' to 'Boolean'"),
        ("  isTest: Boolean = null\n", "  isTest: Boolean!\n", "EventFilter.isTest", "from 'Boolean' to 'Boolean!'"),
        ('\n  """The last attempt of its schedule failed."""\n  FAILED\n', "", "EventStatus.FAILED", "was removed"),
    ],
)
def test_what_breaks_is_found(tmp_path: Path, before: str, after: str, path: str, message: str) -> None:
    ((where, what),) = breaking(changed(tmp_path, before, after))
    assert where == path
    assert message in what


def test_a_deprecation_breaks_nothing(tmp_path: Path) -> None:
    after = '  isTest: Boolean! @deprecated(reason: "Ask for `kind`.")\n  kind: String!\n'
    assert breaking(changed(tmp_path, "  isTest: Boolean!\n", after)) == []


def test_graphql_eslint_finds_nothing() -> None:
    assert run("lint.mjs", SCHEMA) == []


@pytest.mark.parametrize(
    ("before", "after", "rule"),
    [
        ("  isTest: Boolean!\n", "  is_test: Boolean!\n", "naming-convention"),
        ("  isTest: Boolean!\n", "  eventIsTest: Boolean!\n", "no-typename-prefix"),
        ('"""One try to deliver an event."""\ntype', "type", "require-description"),
        ("  isTest: Boolean!\n", '  isTest: Boolean! @deprecated(reason: "")\n', "require-deprecation-reason"),
        ("  node: Event!\n", "  node: [Event!]!\n", "relay-edge-types"),
    ],
)
def test_what_graphql_eslint_is_for_is_found(tmp_path: Path, before: str, after: str, rule: str) -> None:
    text = SCHEMA.read_text()
    assert text.count(before) == 1
    (tmp_path / "changed.graphql").write_text(text.replace(before, after))
    found = run("lint.mjs", tmp_path / "changed.graphql")
    assert [problem["rule"] for problem in found] == [f"@graphql-eslint/{rule}"]


def test_the_released_schema_is_that_of_the_last_release() -> None:
    last = re.search(r"^## \[(\d+\.\d+\.\d+)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert last is not None
    assert RELEASED.read_text().startswith(f"# The schema of Ringback {last[1]}, the last release")
