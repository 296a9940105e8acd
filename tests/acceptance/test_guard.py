"""The guard on the really started program: with no network opened nothing but its own inbox is reached.

It all happens in a network namespace, where private, link-local and metadata addresses are loopback's own and listened
on: this file runs itself there as a script.
"""

import json
import socket
import sys
import threading
from pathlib import Path
from typing import Any

from tests.support import namespace
from tests.support.deliveries import CREATE_WEBHOOK, create_inbox, create_webhook, ended, event, test_fire
from tests.support.program import Program

SETTING = "RINGBACK_DANGEROUS_ALLOW_NETWORKS"
ADDRESSES = ("10.0.0.5", "172.16.0.1", "192.168.1.1", "100.64.0.1", "169.254.169.254", "169.254.1.1")
#: How a URL writes an address, and how the refusal names it.
LITERALS = {
    "127.0.0.2": "127.0.0.2",
    "0.0.0.0": "0.0.0.0",
    "[::1]": "::1",
    "[::ffff:127.0.0.1]": "127.0.0.1",
    **{address: address for address in ("127.0.0.1", *ADDRESSES)},
}
REBOUND = ("127.0.0.1", *ADDRESSES)
PUBLIC = "93.184.215.14"
PORT = 8080


def test_nothing_but_the_inbox_is_reached(tmp_path: Path) -> None:
    seen: dict[str, Any] = json.loads(namespace.run(__file__, tmp_path))
    assert set(seen["saved"]) == set(LITERALS)
    for literal, problems in seen["saved"].items():
        (problem,) = problems
        assert problem["field"] == "input.url", literal
        assert SETTING in problem["message"]
        assert LITERALS[literal] in problem["message"]

    assert set(seen["literals"]) == set(LITERALS)
    for literal, found in seen["literals"].items():
        assert found["status"] == "FAILED", literal
        (attempt,) = found["attempts"]
        _check_blocked(attempt, LITERALS[literal])

    assert set(seen["names"]) == set(REBOUND)
    for address, found in seen["names"].items():
        first, second = found["attempts"]
        # When the webhook was saved, and at the first attempt, the name was public; there is no way out of here.
        assert first["outcome"] in ("UNREACHABLE", "TIMED_OUT")
        _check_blocked(second, address)
        assert _name(address) in second["error"]

    assert min(seen["asked"].values()) >= 2
    assert seen["connections"] == 0
    assert (seen["inbox"]["status"], seen["inbox"]["attempts"][0]["outcome"]) == ("SUCCEEDED", "DELIVERED")
    # The listener is there to be reached: with loopback's networks opened the same webhook arrives.
    assert seen["opened"]["status"] == "SUCCEEDED"
    assert seen["opened_connections"] == 1


def _check_blocked(attempt: dict[str, Any], address: str) -> None:
    assert (attempt["outcome"], attempt["statusCode"], attempt["request"]) == ("BLOCKED", None, None)
    assert address in attempt["error"]
    assert SETTING in attempt["error"]


# ------------------------------------------------------------------------------------------------ inside the namespace


class Listener:
    """Counts the connections to PORT on every address, and answers each with 200."""

    def __init__(self) -> None:
        self.connections = 0
        self._socket = socket.create_server(("::", PORT), family=socket.AF_INET6, dualstack_ipv6=True)
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            connection, _ = self._socket.accept()
            self.connections += 1
            with connection:
                connection.recv(65_536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")


def _fired(program: Program, webhook: str, host: str) -> dict[str, Any]:
    return ended(program, test_fire(program, webhook, name=host))


def _name(address: str) -> str:
    return f"rebinding-{address.replace('.', '-')}.example"


def _rebound(program: Program, names: namespace.Names) -> dict[str, Any]:
    """Test events whose hosts are public when they are saved and first tried, and something else at the second try."""
    fired = {}
    for address in REBOUND:
        names.names[_name(address)] = PUBLIC
        url = f"http://{_name(address)}:{PORT}/"
        webhook = create_webhook(program, url, retryDelaysSeconds=[0, 4], timeoutSeconds=0.5)
        fired[address] = test_fire(program, webhook)
    for address, event_id in fired.items():
        program.wait_until(lambda event_id=event_id: event(program, event_id)["attempts"], "the first attempt")
        names.names[_name(address)] = address
    program.stop()  # an answer is kept for ten seconds; whoever starts anew asks again
    program.start()
    return {address: ended(program, event_id) for address, event_id in fired.items()}


def _main(folder: Path) -> None:
    namespace.give_loopback(ADDRESSES)
    listener, names = Listener(), namespace.Names()
    seen: dict[str, Any] = {"saved": {}, "literals": {}, "names": {}}
    with Program(folder) as program:
        for literal in LITERALS:
            given = {"model": "lead", "actions": ["CREATED"], "url": f"http://{literal}:{PORT}/"}
            seen["saved"][literal] = program.query(CREATE_WEBHOOK, {"input": given})["createWebhook"]["errors"]
        liquid = create_webhook(program, f"http://{{{{ item.name }}}}:{PORT}/", retryDelaysSeconds=[0])
        seen["literals"] = {literal: _fired(program, liquid, literal) for literal in LITERALS}
        seen["names"] = _rebound(program, names)
        seen["asked"] = {address: names.asked.count(_name(address)) for address in REBOUND}
        seen["inbox"] = _fired(program, create_webhook(program, create_inbox(program)), "x")
        seen["connections"] = listener.connections
    with Program(folder, env={SETTING: "127.0.0.0/8,10.0.0.0/8"}) as program:
        seen["opened"] = _fired(program, liquid, "10.0.0.5")
        seen["opened_connections"] = listener.connections
    json.dump(seen, sys.stdout)


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
