"""The started program reaches no port that is not allowed, and tells no one which address a name resolves to.

The program runs in a network namespace whose loopback device has the attacked addresses, with a listener on each port.
Even a broken guard reaches nothing else.
"""

import json
from pathlib import Path
from typing import Any

from tests.proof import attacked_addresses
from tests.proof.attacked_addresses import (
    ALLOWED_PORTS,
    CONSTANT_URLS,
    INTERNAL,
    INTERNAL_NAME,
    PUBLIC,
    PUBLIC_NAME,
    REFUSED_PORTS,
)
from tests.support import namespace


def test_ports_and_names(tmp_path: Path) -> None:
    seen: dict[str, Any] = json.loads(namespace.run(attacked_addresses.__file__, tmp_path))

    assert set(seen["saved"]) == set(CONSTANT_URLS)
    assert {url for url, errors in seen["saved"].items() if not errors} == set()
    assert seen["webhooks"] == []

    outcomes = {target: _outcome(event) for target, event in seen["delivered"].items()}
    refused = {f"{host}:{port}": "BLOCKED" for host in (PUBLIC, PUBLIC_NAME) for port in REFUSED_PORTS}
    allowed = {f"{host}:{port}": "DELIVERED" for host in (PUBLIC, PUBLIC_NAME) for port in ALLOWED_PORTS}
    assert outcomes == refused | allowed
    for target in refused:
        (attempt,) = seen["delivered"][target]["attempts"]
        assert attempt["request"] is None
        port = target.rpartition(":")[2]
        assert attempt["error"].startswith(f"Port {port} is not allowed; ")
        assert "RINGBACK_ALLOW_PORTS" in attempt["error"]
    # The listeners work: those of allowed ports were reached by both hosts.
    assert seen["connections"] == {str(port): 2 for port in ALLOWED_PORTS}

    (internal,) = seen["internal"].values()
    assert _outcome(internal) == "BLOCKED"
    assert internal["attempts"][0]["error"].startswith(f"{INTERNAL_NAME} resolves to a private address; ")
    assert INTERNAL not in json.dumps(internal)
    assert seen["log"]
    assert INTERNAL not in json.dumps(seen["log"])

    assert _outcome(seen["stored"]) == "BLOCKED"
    assert (seen["warning"]["webhook"], seen["warning"]["place"]) == ("stored", "url")
    assert "Port 22 is not allowed" in seen["warning"]["problems"][0]
    assert seen["all_connections"] == seen["connections"]

    other_ports = {target: _outcome(event) for target, event in seen["other_ports"].items()}
    assert other_ports == {f"{PUBLIC}:22": "DELIVERED", f"{PUBLIC}:80": "BLOCKED"}
    opened = {target: _outcome(event) for target, event in seen["opened"].items()}
    assert opened == {
        f"{INTERNAL_NAME}:25": "DELIVERED", f"{INTERNAL}:25": "DELIVERED", f"{PUBLIC_NAME}:25": "BLOCKED",
    }  # fmt: skip
    assert seen["saved_while_open"] == []


def _outcome(event: dict[str, Any]) -> str:
    (attempt,) = event["attempts"]
    return str(attempt["outcome"])
