"""The address guard of the started program: without allowed networks it reaches only its own inbox.

The test runs in a network namespace, where private, link-local and metadata addresses belong to the loopback device and
have a listener.
"""

import json
from pathlib import Path
from typing import Any

from tests.proof import guarded_deliveries
from tests.proof.guarded_deliveries import LITERALS, REBOUND, SETTING, rebinding_name
from tests.support import namespace


def test_nothing_but_the_inbox_is_reached(tmp_path: Path) -> None:
    seen: dict[str, Any] = json.loads(namespace.run(guarded_deliveries.__file__, tmp_path))
    assert set(seen["saved"]) == set(LITERALS)
    for literal, problems in seen["saved"].items():
        (problem,) = problems
        assert problem["field"] == "input.url", literal
        assert SETTING in problem["message"]
        assert LITERALS[literal] in problem["message"]

    assert set(seen["literals"]) == set(LITERALS)
    for literal, event in seen["literals"].items():
        assert event["status"] == "FAILED", literal
        (attempt,) = event["attempts"]
        _check_blocked(attempt)
        assert LITERALS[literal] in attempt["error"]

    assert set(seen["names"]) == set(REBOUND)
    for address, event in seen["names"].items():
        first, second = event["attempts"]
        # The address was public at the first attempt, but the namespace has no route to it.
        assert first["outcome"] in ("UNREACHABLE", "TIMED_OUT")
        _check_blocked(second)
        assert second["error"].startswith(f"{rebinding_name(address)} resolves to ")
        assert address not in second["error"]

    assert min(seen["asked"].values()) >= 2
    assert seen["connections"] == 0
    assert (seen["inbox"]["status"], seen["inbox"]["attempts"][0]["outcome"]) == ("SUCCEEDED", "DELIVERED")
    # The listener works: with the networks allowed, the same webhook arrives.
    assert seen["opened"]["status"] == "SUCCEEDED"
    assert seen["opened_connections"] == 1


def _check_blocked(attempt: dict[str, Any]) -> None:
    assert (attempt["outcome"], attempt["statusCode"], attempt["request"]) == ("BLOCKED", None, None)
    assert SETTING in attempt["error"]
