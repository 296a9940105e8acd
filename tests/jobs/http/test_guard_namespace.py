"""The address guard from outside: private, link-local and metadata addresses are never reached.

They are tried in a network namespace of the test's own, where they are addresses of its loopback device, so nothing can
send a packet off loopback, even if the guard is broken. This file runs itself there as a script (see `in_namespace`).
"""

import asyncio
import fcntl
import ipaddress
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import structlog

from ringback.jobs.http.sender import Sender
from ringback.models.security.address_policy import AddressPolicy
from tests.support.guarded import EVERYTHING, STRICT, Names, deliver, listening
from tests.support.http_server import NO_AUTHORITIES
from tests.support.patience import PATIENCE_SECONDS

#: Addresses of the namespace's loopback device, by family, and literals that lead to them.
SPECIAL_V4 = (
    "0.1.2.3",
    "10.0.0.5",
    "100.64.0.1",
    "100.100.100.200",
    "168.63.129.16",
    "169.254.169.254",
    "172.16.0.1",
    "192.0.0.192",
    "192.168.1.1",
    "198.18.0.1",
    "203.0.113.1",
    "240.0.0.1",
)
SPECIAL_V6 = (
    "::10.0.0.5",
    "64:ff9b::a00:5",
    "64:ff9b:1::a00:5",
    "2001::1",
    "2001:db8::1",
    "2002:a00:5::1",
    "3fff::1",
    "5f00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fec0::1",
)
SPELLINGS = (
    *SPECIAL_V4,
    *(f"[{address}]" for address in SPECIAL_V6 if address != "fe80::1"),
    "[::ffff:10.0.0.5]",
    "[::ffff:169.254.169.254]",
    "169。254。169。254",
)
PORT = 8080


def test_private_link_local_and_metadata_addresses_are_never_reached() -> None:
    seen = in_namespace()
    names = {f"name of {address}": address for address in (*SPECIAL_V4, *SPECIAL_V6)}
    assert set(seen["guarded"]) == {*SPELLINGS, *names}
    assert {target: outcome for target, outcome in seen["guarded"].items() if outcome != "BLOCKED"} == {}
    assert seen["guarded_connections"] == 0
    # Every address can be reached: the same requests arrive when the operator allows all networks.
    assert {target: outcome for target, outcome in seen["opened"].items() if outcome != "DELIVERED"} == {}
    assert seen["opened_connections"] == len(SPELLINGS) + len(names)


def in_namespace() -> dict[str, Any]:
    """Run this file as a script in a network namespace that has nothing but loopback, and return what it saw."""
    unshare = shutil.which("unshare")
    enter = [unshare or "unshare", "--user", "--map-root-user", "--net"]
    if unshare is None or subprocess.run([*enter, "true"], capture_output=True).returncode:
        reason = "needs `unshare --user --map-root-user --net` (util-linux, and unprivileged user namespaces)"
        if os.environ.get("CI") == "true":
            pytest.fail(f"{reason}; in CI this test may not be skipped")
        pytest.skip(reason)
    run = subprocess.run(
        [*enter, sys.executable, __file__],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
    )
    assert run.returncode == 0, run.stderr
    result: dict[str, Any] = json.loads(run.stdout)
    return result


def _give_loopback_the_special_addresses() -> None:
    # By ioctl (netdevice(7)), so that no package is needed: iproute2 is often missing.
    set_flags, set_address, up_and_running, loopback = 0x8914, 0x8916, 0x1 | 0x40, "lo"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, set_flags, struct.pack("16sh22x", loopback.encode(), up_and_running))
        for number, address in enumerate(SPECIAL_V4):
            packed = ipaddress.IPv4Address(address).packed
            alias = f"{loopback}:{number}".encode()
            fcntl.ioctl(control, set_address, struct.pack("16sHH4s16x", alias, socket.AF_INET, 0, packed))
    index = socket.if_nametoindex(loopback)
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as control:
        for address in SPECIAL_V6:
            fcntl.ioctl(control, set_address, struct.pack("16sIi", ipaddress.IPv6Address(address).packed, 128, index))


async def _try_all(policy: AddressPolicy) -> tuple[dict[str, str], int]:
    outcomes = {}
    async with listening("0.0.0.0", "::", port=PORT) as (listener, _):
        for spelling in SPELLINGS:
            async with Sender(policy, tls=NO_AUTHORITIES) as sender:
                outcomes[spelling] = (await deliver(sender, f"http://{spelling}:{PORT}/")).outcome.name
        for address in (*SPECIAL_V4, *SPECIAL_V6):
            scoped = f"{address}%lo" if address == "fe80::1" else address
            async with Sender(policy, lookup=Names([scoped]), tls=NO_AUTHORITIES) as sender:
                sent = await deliver(sender, f"http://hooks.example:{PORT}/")
                outcomes[f"name of {address}"] = sent.outcome.name
        return outcomes, listener.connections


async def _main() -> None:
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))  # standard output is the result
    _give_loopback_the_special_addresses()
    guarded, guarded_connections = await _try_all(STRICT)
    opened, opened_connections = await _try_all(EVERYTHING)
    json.dump(
        {
            "guarded": guarded,
            "guarded_connections": guarded_connections,
            "opened": opened,
            "opened_connections": opened_connections,
        },
        sys.stdout,
    )


if __name__ == "__main__":
    asyncio.run(_main())
