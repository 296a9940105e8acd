"""Checks of the schema with npm tools: graphql-eslint, and graphql-inspector for changes that break clients.

`released.graphql` is the schema of the last release. Its elements stay, `@deprecated` if need be, until a release whose
CHANGELOG names what it removes; that release replaces `released.graphql` with `schema.graphql`.
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
#: Accepted breaking changes since the last release, each with its reason. Empty it with the next release.
ACCEPTED = {
    "Change.changedFields": "renamed to Change.updatedFields, as graphql-eslint refuses a field that begins with its "
    "type's name; it was never in the public contract, and Event.changedFields has the same values",
}


def run(script: str, *arguments: Path) -> list[Any]:
    """Return the JSON that a script of this folder prints. Skips the test if Node.js or its packages are missing."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("Node.js is missing: apt-get install nodejs npm")
    if not (TOOLS / "node_modules").exists():
        pytest.skip("the npm tools are not installed: make schema-tools")
    completed = subprocess.run(
        [node, script, *map(str, arguments)], cwd=TOOLS, capture_output=True, text=True, timeout=120
    )
    assert completed.returncode == 0, completed.stderr
    output: list[Any] = json.loads(completed.stdout)
    return output


def find_breaking_changes(now: Path) -> list[tuple[str, str]]:
    return [(change["path"], change["message"]) for change in run("breaking.mjs", RELEASED, now)]


def change_released_schema(folder: Path, before: str, after: str) -> Path:
    """Write the released schema with one change to a file."""
    text = RELEASED.read_text()
    assert text.count(before) == 1
    path = folder / "changed.graphql"
    path.write_text(text.replace(before, after))
    return path


def test_the_schema_does_not_break_clients_of_the_last_release() -> None:
    assert {path for path, _ in find_breaking_changes(SCHEMA)} == ACCEPTED.keys()


@pytest.mark.parametrize(
    ("before", "after", "path", "message"),
    [
        ('"""Where it stands."""\n  status: EventStatus!\n', "", "Event.status", "removed from object type 'Event'"),
        ("  isTest: Boolean!\n", "  isTest: Boolean\n", "Event.isTest", "changed type from 'Boolean!' to 'Boolean'"),
        ("  isTest: Boolean = null\n", "  isTest: Boolean!\n", "EventFilter.isTest", "from 'Boolean' to 'Boolean!'"),
        ('\n  """The last attempt of its schedule failed."""\n  FAILED\n', "", "EventStatus.FAILED", "was removed"),
    ],
)
def test_a_breaking_change_is_detected(tmp_path: Path, before: str, after: str, path: str, message: str) -> None:
    ((where, what),) = find_breaking_changes(change_released_schema(tmp_path, before, after))
    assert where == path
    assert message in what


def test_a_deprecation_is_not_a_breaking_change(tmp_path: Path) -> None:
    after = '  isTest: Boolean! @deprecated(reason: "Ask for `kind`.")\n  kind: String!\n'
    assert find_breaking_changes(change_released_schema(tmp_path, "  isTest: Boolean!\n", after)) == []


#: Changes of the schema, each with the rule that it violates.
VIOLATIONS = [
    ("  isTest: Boolean!\n", "  is_test: Boolean!\n", "naming-convention"),
    ("  isTest: Boolean!\n", "  eventIsTest: Boolean!\n", "no-typename-prefix"),
    ('"""A try to deliver an event, with its request, response and outcome."""\ntype', "type", "require-description"),
    ("  isTest: Boolean!\n", '  isTest: Boolean! @deprecated(reason: "")\n', "require-deprecation-reason"),
    ("  node: Event!\n", "  node: [Event!]!\n", "relay-edge-types"),
]


def test_graphql_eslint_finds_nothing_but_violations(tmp_path: Path) -> None:
    """The start of Node.js and of the linter takes longer than the checks, so one process checks all schemas."""
    text = SCHEMA.read_text()
    changed_schemas = []
    for number, (before, after, _) in enumerate(VIOLATIONS):
        assert text.count(before) == 1
        path = tmp_path / f"{number}.graphql"
        path.write_text(text.replace(before, after))
        changed_schemas.append(path)

    problems, *found = run("lint.mjs", SCHEMA, *changed_schemas)

    assert problems == []
    rules = [[problem["rule"] for problem in problems] for problems in found]
    assert rules == [[f"@graphql-eslint/{rule}"] for _, _, rule in VIOLATIONS]


def test_the_released_schema_is_that_of_the_last_release() -> None:
    last = re.search(r"^## \[(\d+\.\d+\.\d+)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert last is not None
    assert RELEASED.read_text().startswith(f"# The schema of Ringback {last[1]}, the last release")
