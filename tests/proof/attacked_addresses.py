"""The program that `test_attack_addresses` runs in a network namespace, where all addresses belong to loopback."""

import json
import socket
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

from tests.support import namespace
from tests.support.deliveries import (
    CREATE_WEBHOOK,
    create_webhook,
    open_database,
    test_fire,
    wait_until_ended,
)
from tests.support.program import Program

PUBLIC, INTERNAL = "93.184.215.14", "10.0.0.5"
PUBLIC_NAME, INTERNAL_NAME = "hooks.example", "internal.example"
REFUSED_PORTS, ALLOWED_PORTS = (22, 25, 110), (80, 6_379)
#: URLs that lead to a port or an address that is not allowed, whatever the data.
CONSTANT_URLS = (
    *(f"http://{PUBLIC_NAME}:{port}/" for port in REFUSED_PORTS),
    f"http://{PUBLIC}:22/{{{{ item.phone }}}}",
    "http://{{ item.name }}:25/",
    f"http://{PUBLIC_NAME}:{{{{ 2 | times: 11 }}}}/",
    "http://ⓛⓞⓒⓐⓛⓗⓞⓢⓣ/",
    "http://𝓵𝓸𝓬𝓪𝓵𝓱𝓸𝓼𝓽/",
    "http://١٢٧.٠.٠.١/",
    "http://loc\u00adalhost/",
    "http://{{ 'local' | append: 'host' }}/",
    "{% assign h = '10.0.0.5' %}http://{{ h }}/{{ item.name }}",
    "http://10.0.0.5:{{ item.phone }}/",
)


class _Listeners:
    """Counts the connections to each port, on all addresses, and answers each with 200."""

    def __init__(self) -> None:
        self.connections: Counter[int] = Counter()
        for port in (*REFUSED_PORTS, *ALLOWED_PORTS):
            listener = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
            threading.Thread(target=self._serve, args=(listener, port), daemon=True).start()

    def _serve(self, listener: socket.socket, port: int) -> None:
        while True:
            connection, _ = listener.accept()
            self.connections[port] += 1
            with connection:
                connection.recv(65_536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")


def _save(program: Program, url: str) -> list[dict[str, Any]]:
    fields = {"model": "lead", "actions": ["CREATED"], "url": url}
    errors: list[dict[str, Any]] = program.query(CREATE_WEBHOOK, {"input": fields})["createWebhook"]["errors"]
    return errors


def _deliver(program: Program, webhook: str, targets: list[tuple[str, int]]) -> dict[str, Any]:
    """Fire a test event at each target, and return the ended events by target."""
    events = {f"{host}:{port}": test_fire(program, webhook, name=host, phone=str(port)) for host, port in targets}
    return {target: wait_until_ended(program, event) for target, event in events.items()}


def _store_refused_url(program: Program, webhook: str) -> None:
    """Give a webhook a URL that was allowed when it was saved, and restart the program."""
    with open_database(program) as database:
        database.execute(f"UPDATE ringback_webhook SET url = 'http://{PUBLIC_NAME}:22/' WHERE name = 'stored'")
    program.stop()
    program.start()


def main(folder: Path) -> None:
    namespace.give_loopback([PUBLIC, INTERNAL])
    listeners, names = _Listeners(), namespace.Names()
    names.names.update({PUBLIC_NAME: PUBLIC, INTERNAL_NAME: INTERNAL})
    targets = [(host, port) for host in (PUBLIC, PUBLIC_NAME) for port in (*REFUSED_PORTS, *ALLOWED_PORTS)]
    seen: dict[str, Any] = {}
    with Program(folder) as program:
        seen["saved"] = {url: _save(program, url) for url in CONSTANT_URLS}
        seen["webhooks"] = program.query("{ webhooks(first: 1) { nodes { url } } }")["webhooks"]["nodes"]
        webhook = create_webhook(program, "http://{{ item.name }}:{{ item.phone }}/", retryDelaysSeconds=[0])
        seen["delivered"] = _deliver(program, webhook, targets)
        seen["connections"] = dict(listeners.connections)
        seen["internal"] = _deliver(program, webhook, [(INTERNAL_NAME, 80)])
        stored = create_webhook(program, f"http://{PUBLIC_NAME}/", name="stored", retryDelaysSeconds=[0])
        _store_refused_url(program, stored)
        seen["stored"] = wait_until_ended(program, test_fire(program, stored))
        seen["warning"] = program.wait_until(lambda: _find_warning(program), "the warning")
        seen["all_connections"] = dict(listeners.connections)
        with open_database(program) as database:
            seen["log"] = [message for (message,) in database.execute("SELECT message FROM ringback_log")]
    with Program(folder, env={"RINGBACK_ALLOW_PORTS": "22"}) as program:
        seen["other_ports"] = _deliver(program, webhook, [(PUBLIC, 22), (PUBLIC, 80)])
    with Program(folder, env={"RINGBACK_DANGEROUS_ALLOW_NETWORKS": f"{INTERNAL}/32"}) as program:
        seen["opened"] = _deliver(program, webhook, [(INTERNAL_NAME, 25), (PUBLIC_NAME, 25), (INTERNAL, 25)])
        seen["saved_while_open"] = _save(program, f"http://{INTERNAL_NAME}:25/")
    json.dump(seen, sys.stdout)


def _find_warning(program: Program) -> dict[str, Any] | None:
    lines = [json.loads(line) for line in program.log().splitlines()]
    return next((line for line in lines if line["action"] == "check_webhooks"), None)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
