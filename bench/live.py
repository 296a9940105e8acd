"""`make bench-live`: how soon the last of 2,000 subscribers of the live log gets an entry.

The promise: with SUBSCRIBERS subscribers on one api process and RATE entries a second for each of them, the last one
gets an entry within PROMISED_MS of its being written, in 99 of 100 cases. The program is really started; entries are
written by mutations (a test event each), and each subscriber selects all that the contract's DeliveryLog does. What is
measured begins when the entry was written, before its transaction commits, and ends when the last client has it.

The exit code is 1 when the promise is not met, and when a subscriber missed an entry or got anything else.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.figures import percentile
from bench.load import Wrong, cpu_seconds
from tests.support.deliveries import create_webhook, test_fire
from tests.support.program import Program

SUBSCRIBERS, RATE, PROMISED_MS = 2_000, 5.0, 500.0
#: How many subscriptions a connection has, in each of the measurements; the promise is about the first.
SPREADS = (1, 20)
#: Entries that are written before those that count, so that all follow and the program is warm.
WARM_UP = 10


@dataclass(frozen=True, slots=True)
class Measured:
    """For each entry the milliseconds to the first and to the last subscriber; the server's share of a processor."""

    connections: int
    subscriptions: int
    first: list[float]
    last: list[float]
    cpu: float | None


def measure(subscribers: int, subscriptions: int, rate: float, seconds: float) -> Measured:
    """Start a program, have it followed, write entries, and compare; raises Wrong unless everyone got each entry."""
    connections = subscribers // subscriptions
    with tempfile.TemporaryDirectory() as folder, Program(Path(folder), "api") as program:
        assert program.process is not None
        webhook = create_webhook(program, "https://hooks.example/", sendJson=True)
        _, _, address = program.url.partition("://")
        host, _, port = address.rpartition(":")
        command = [*(sys.executable, "-m", "bench.watchers", host, port, program.token)]
        with subprocess.Popen(
            [*command, str(connections), str(subscriptions)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as watching:
            try:
                assert watching.stdin is not None
                assert watching.stdout is not None
                if watching.stdout.readline() != "ready\n":
                    raise Wrong("the subscribers could not connect")
                time.sleep(2)
                write(program, webhook, rate, WARM_UP)
                cpu, began = cpu_seconds(program.process.pid), time.monotonic()
                write(program, webhook, rate, round(rate * seconds))
                cpu_after, took = cpu_seconds(program.process.pid), time.monotonic() - began
                time.sleep(2)
                watching.stdin.close()
                noted = json.loads(watching.stdout.readline())
            finally:
                watching.kill()
    expected = WARM_UP + round(rate * seconds)
    check(noted, expected, connections * subscriptions)
    entries = noted["entries"][WARM_UP:]
    share = (cpu_after - cpu) / took if cpu is not None and cpu_after is not None else None
    return Measured(
        connections,
        subscriptions,
        [(entry["first"] - entry["written"]) * 1e3 for entry in entries],
        [(entry["last"] - entry["written"]) * 1e3 for entry in entries],
        share,
    )


def write(program: Program, webhook: str, rate: float, entries: int) -> None:
    """Write so many entries, so many a second."""
    began = time.monotonic()
    for number in range(entries):
        test_fire(program, webhook)
        time.sleep(max(0.0, began + (number + 1) / rate - time.monotonic()))


def check(noted: dict[str, Any], entries: int, subscribers: int) -> None:
    """Raises Wrong unless so many got each of so many entries, and nothing else."""
    if noted["others"]:
        raise Wrong(f"a subscriber got {noted['others'][0]}")
    counts = [entry["count"] for entry in noted["entries"]]
    if counts != [subscribers] * entries:
        short = next((count for count in counts if count != subscribers), None)
        raise Wrong(f"{len(counts)} of {entries} entries came; one came {short} times, not {subscribers}")


def table(results: Sequence[Measured]) -> str:
    """The results for people."""
    lines = [
        f"{'connections':>11}{'each':>6}{'entries':>9}{'first p50':>11}{'last p50':>10}{'p99':>8}{'max':>8} ms    CPU"
    ]
    for one in results:
        cpu = f"{one.cpu:6.0%}" if one.cpu is not None else ""
        lines.append(
            f"{one.connections:11,}{one.subscriptions:6,}{len(one.last):9,}{percentile(one.first, 50):11.1f}"
            f"{percentile(one.last, 50):10.1f}{percentile(one.last, 99):8.1f}{max(one.last):8.1f}    {cpu}"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and say by the exit code whether the promise holds."""
    parser = argparse.ArgumentParser(prog="bench.live", description="How soon the last subscriber gets an entry.")
    parser.add_argument("--subscribers", type=int, default=SUBSCRIBERS)
    parser.add_argument("--rate", type=float, default=RATE, help="entries a second")
    parser.add_argument("--seconds", type=float, default=40, help="how long is measured")
    options = parser.parse_args(arguments)
    results = []
    try:
        for subscriptions in SPREADS:
            print(f"{options.subscribers:,} subscriptions, {subscriptions} on each connection", file=sys.stderr)
            results.append(measure(options.subscribers, subscriptions, options.rate, options.seconds))
    except Wrong as wrong:
        print(f"Measured nothing: {wrong}", file=sys.stderr)
        return 1
    print(table(results))
    p99 = percentile(results[0].last, 99)
    kept = p99 <= PROMISED_MS
    print(
        f"{options.subscribers:,} subscribers, {options.rate:g} entries/s each: the last one has an entry after "
        f"{p99:.0f} ms at p99; {PROMISED_MS:g} promised: {'kept' if kept else 'NOT KEPT'}"
    )
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
