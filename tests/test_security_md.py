"""SECURITY.md: every test that it names exists."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
SECURITY = (ROOT / "SECURITY.md").read_text()


def test_each_threat_names_tests_that_exist() -> None:
    _, _, after = SECURITY.partition("| threat | mitigation | tests |\n")
    rows = [line.strip("| ").split(" | ") for line in after.partition("\n\n")[0].splitlines()[1:]]
    threats = [row for row in rows if len(row) == 3]

    named = {row[0]: re.findall(r"`(tests/[^`]+)`", row[2]) for row in threats}

    assert len(threats) >= 27
    assert [threat for threat in named if not named[threat]] == []
    assert [test for tests in named.values() for test in tests if not exists(test)] == []


def exists(name: str) -> bool:
    """Return whether a test's module, and the function in it if one is named, exist."""
    path, _, function = name.partition("::")
    if not function:
        return (ROOT / path).exists()
    tree = ast.parse((ROOT / path).read_text())
    functions = ast.FunctionDef | ast.AsyncFunctionDef
    return function in [node.name for node in tree.body if isinstance(node, functions)]
