"""A network of a test's own: nothing but loopback, which may have any address, and names that the test makes up.

Even a broken guard reaches nothing there. `run` starts a script inside; the rest is for that script.
"""

import fcntl
import ipaddress
import os
import shutil
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.patience import PATIENCE_SECONDS

_SET_FLAGS, _SET_ADDRESS, _UP_AND_RUNNING = 0x8914, 0x8916, 0x1 | 0x40  # netdevice(7)


def run(script: str, folder: Path, seconds: float = 5 * PATIENCE_SECONDS) -> str:
    """Run a script in a network namespace whose resolver is 127.0.0.1; returns what it printed.

    Where the machine has no such namespaces the test is skipped, and in CI failed.
    """
    unshare = shutil.which("unshare")
    enter = [unshare or "unshare", "--user", "--map-root-user", "--net", "--mount"]
    if unshare is None or subprocess.run([*enter, "true"], capture_output=True).returncode:
        reason = "needs `unshare --user --map-root-user --net --mount` (util-linux, unprivileged user namespaces)"
        if os.environ.get("CI") == "true":
            pytest.fail(f"{reason}; in CI this test may not be skipped")
        pytest.skip(reason)
    resolver = folder / "resolv.conf"
    resolver.write_text("nameserver 127.0.0.1\n")
    inside = ["sh", "-c", 'mount --bind "$0" /etc/resolv.conf && exec "$@"', str(resolver)]
    done = subprocess.run(
        [*enter, *inside, sys.executable, script, str(folder)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=seconds,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def give_loopback(addresses: Sequence[str]) -> None:
    """Bring loopback up and give it IPv4 addresses; by ioctl, because iproute2 is often missing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, _SET_FLAGS, struct.pack("16sh22x", b"lo", _UP_AND_RUNNING))
        for number, address in enumerate(addresses):
            packed = ipaddress.IPv4Address(address).packed
            name = f"lo:{number}".encode()
            fcntl.ioctl(control, _SET_ADDRESS, struct.pack("16sHH4s16x", name, socket.AF_INET, 0, packed))


class Names:
    """A name server on 127.0.0.1:53: `names[host]` is the address that a host has at the moment."""

    def __init__(self) -> None:
        self.names: dict[str, str] = {}
        self.asked: list[str] = []
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 53))
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            question, client = self._socket.recvfrom(4096)
            self._socket.sendto(self._answer(question), client)

    def _answer(self, query: bytes) -> bytes:
        """RFC 1035, section 4: one question, and for an A question about a known name one answer that nobody keeps."""
        labels, at = [], 12
        while query[at]:
            labels.append(query[at + 1 : at + 1 + query[at]].decode())
            at += 1 + query[at]
        question = query[12 : at + 5]
        name, kind = ".".join(labels).lower(), struct.unpack("!H", query[at + 1 : at + 3])[0]
        self.asked.append(name)
        address = self.names.get(name) if kind == 1 else None
        code = 0 if name in self.names else 3
        head = struct.pack("!2sHHHHH", query[:2], 0x8580 | code, 1, 1 if address else 0, 0, 0)
        if address is None:
            return head + question
        return head + question + struct.pack("!HHHIH4s", 0xC00C, 1, 1, 0, 4, ipaddress.IPv4Address(address).packed)
