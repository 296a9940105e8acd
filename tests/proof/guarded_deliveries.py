"""The program that `test_guard` runs in a network namespace, where private addresses belong to the loopback device."""

import json
import socket
import sys
import threading
from pathlib import Path
from typing import Any

from tests.support import namespace
from tests.support.deliveries import (
    CREATE_WEBHOOK,
    create_inbox,
    create_webhook,
    fetch_event,
    make_due,
    test_fire,
    wait_until_ended,
)
from tests.support.program import Program

SETTING = "RINGBACK_DANGEROUS_ALLOW_NETWORKS"
ADDRESSES = ("10.0.0.5", "172.16.0.1", "192.168.1.1", "100.64.0.1", "169.254.169.254", "169.254.1.1")
#: Hosts of URLs, with the address that the refusal names.
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


def _fire_and_wait(program: Program, webhook: str, host: str) -> dict[str, Any]:
    return wait_until_ended(program, test_fire(program, webhook, name=host))


def rebinding_name(address: str) -> str:
    return f"rebinding-{address.replace('.', '-')}.example"


def _fire_at_rebinding_hosts(program: Program, names: namespace.Names) -> dict[str, Any]:
    """Return ended test events whose hosts resolve to a public address first, and to another at the second attempt."""
    event_ids = {}
    for address in REBOUND:
        names.names[rebinding_name(address)] = PUBLIC
        url = f"http://{rebinding_name(address)}:{PORT}/"
        webhook = create_webhook(program, url, retryDelaysSeconds=[0, 3_600], timeoutSeconds=0.5)
        event_ids[address] = test_fire(program, webhook)
    for address, event_id in event_ids.items():
        program.wait_until(lambda event_id=event_id: fetch_event(program, event_id)["attempts"], "the first attempt")
        names.names[rebinding_name(address)] = address
    program.stop()  # a restart clears its DNS cache, which lasts ten seconds
    program.start()
    make_due(program, list(event_ids.values()))
    return {address: wait_until_ended(program, event_id) for address, event_id in event_ids.items()}


def main(folder: Path) -> None:
    namespace.give_loopback(ADDRESSES)
    listener, names = Listener(), namespace.Names()
    seen: dict[str, Any] = {"saved": {}, "literals": {}, "names": {}}
    with Program(folder) as program:
        for literal in LITERALS:
            fields = {"model": "lead", "actions": ["CREATED"], "url": f"http://{literal}:{PORT}/"}
            seen["saved"][literal] = program.query(CREATE_WEBHOOK, {"input": fields})["createWebhook"]["errors"]
        liquid = create_webhook(program, f"http://{{{{ item.name }}}}:{PORT}/", retryDelaysSeconds=[0])
        seen["literals"] = {literal: _fire_and_wait(program, liquid, literal) for literal in LITERALS}
        seen["names"] = _fire_at_rebinding_hosts(program, names)
        seen["asked"] = {address: names.asked.count(rebinding_name(address)) for address in REBOUND}
        seen["inbox"] = _fire_and_wait(program, create_webhook(program, create_inbox(program)), "x")
        seen["connections"] = listener.connections
    with Program(folder, env={SETTING: "127.0.0.0/8,10.0.0.0/8"}) as program:
        seen["opened"] = _fire_and_wait(program, liquid, "10.0.0.5")
        seen["opened_connections"] = listener.connections
    json.dump(seen, sys.stdout)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
