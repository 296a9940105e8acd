"""`make bench-live`: measures when the last of 2,000 subscribers of the live log gets an entry.

The promise: with SUBSCRIBERS subscribers on one api process and RATE entries/s for each of them, the last subscriber
gets an entry within PROMISED_MS after it was written, in 99 of 100 cases. Mutations write the entries (a test event
each), and each subscriber selects all fields of the contract's DeliveryLog. The time starts when the entry is written,
before its transaction commits, and ends when the last client has it.

Exits with 1 if the promise is not kept, or if a subscriber missed an entry or got anything else.
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
from bench.load import WrongResult, cpu_seconds
from tests.support.deliveries import create_webhook, test_fire
from tests.support.program import Program

SUBSCRIBERS, RATE, PROMISED_MS = 2_000, 5.0, 500.0
#: Subscriptions per connection, one measurement each. The promise is about the first.
SPREADS = (1, 20)
#: Entries that warm the program up and do not count.
WARM_UP = 10


@dataclass(frozen=True, slots=True)
class Measured:
    """Milliseconds to the first and to the last subscriber, per entry. `cpu` is the server's share of a core."""

    connections: int
    subscriptions: int
    first: list[float]
    last: list[float]
    cpu: float | None


def measure(subscribers: int, subscriptions: int, rate: float, seconds: float) -> Measured:
    """Start a program and subscribers, write entries, and measure. Raises WrongResult unless all arrive."""
    connections = subscribers // subscriptions
    with tempfile.TemporaryDirectory() as folder, Program(Path(folder), "api") as program:
        assert program.process is not None
        webhook = create_webhook(program, "https://hooks.example/", sendJson=True)
        _, _, address = program.url.partition("://")
        host, _, port = address.rpartition(":")
        command = [sys.executable, "-m", "bench.watchers", host, port, program.token]
        with subprocess.Popen(
            [*command, str(connections), str(subscriptions)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as watchers:
            try:
                assert watchers.stdin is not None
                assert watchers.stdout is not None
                if watchers.stdout.readline() != "ready\n":
                    raise WrongResult("The subscribers could not connect.")
                time.sleep(2)
                write(program, webhook, rate, WARM_UP)
                cpu_before, started_at = cpu_seconds(program.process.pid), time.monotonic()
                write(program, webhook, rate, round(rate * seconds))
                cpu_after, seconds_taken = cpu_seconds(program.process.pid), time.monotonic() - started_at
                time.sleep(2)
                watchers.stdin.close()
                report = json.loads(watchers.stdout.readline())
            finally:
                watchers.kill()
    expected = WARM_UP + round(rate * seconds)
    check(report, expected, connections * subscriptions)
    entries = report["entries"][WARM_UP:]
    share = None
    if cpu_before is not None and cpu_after is not None:
        share = (cpu_after - cpu_before) / seconds_taken
    return Measured(
        connections=connections,
        subscriptions=subscriptions,
        first=[(entry["first"] - entry["written"]) * 1e3 for entry in entries],
        last=[(entry["last"] - entry["written"]) * 1e3 for entry in entries],
        cpu=share,
    )


def write(program: Program, webhook: str, rate: float, entries: int) -> None:
    """Write `entries` log entries, `rate` per second, by firing tests."""
    started_at = time.monotonic()
    for number in range(entries):
        test_fire(program, webhook)
        time.sleep(max(0.0, started_at + (number + 1) / rate - time.monotonic()))


def check(report: dict[str, Any], entries: int, subscribers: int) -> None:
    """Check that every subscriber got every entry once, and nothing else. Raises WrongResult."""
    if report["others"]:
        raise WrongResult(f"A subscriber got an unexpected message: {report['others'][0]}")
    counts = [entry["count"] for entry in report["entries"]]
    if len(counts) != entries:
        raise WrongResult(f"{len(counts)} of {entries} entries arrived.")
    for count in counts:
        if count != subscribers:
            raise WrongResult(f"An entry arrived {count} times instead of {subscribers} times.")


def table(results: Sequence[Measured]) -> str:
    """Return the results for a terminal."""
    lines = [
        f"{'connections':>11}{'each':>6}{'entries':>9}{'first p50':>11}{'last p50':>10}{'p99':>8}{'max':>8} ms    CPU"
    ]
    for measured in results:
        first, last = measured.first, measured.last
        cpu = f"{measured.cpu:6.0%}" if measured.cpu is not None else ""
        lines.append(
            f"{measured.connections:11,}{measured.subscriptions:6,}{len(last):9,}{percentile(first, 50):11.1f}"
            f"{percentile(last, 50):10.1f}{percentile(last, 99):8.1f}{max(last):8.1f}    {cpu}"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print the results. Return 1 if the promise is not kept."""
    parser = argparse.ArgumentParser(prog="bench.live", description="Measure when the last subscriber gets an entry.")
    parser.add_argument("--subscribers", type=int, default=SUBSCRIBERS)
    parser.add_argument("--rate", type=float, default=RATE, help="entries per second")
    parser.add_argument("--seconds", type=float, default=40, help="duration of each measurement")
    options = parser.parse_args(arguments)
    results = []
    try:
        for subscriptions in SPREADS:
            print(f"{options.subscribers:,} subscriptions, {subscriptions} on each connection", file=sys.stderr)
            results.append(measure(options.subscribers, subscriptions, options.rate, options.seconds))
    except WrongResult as wrong:
        print(f"No result: {wrong}", file=sys.stderr)
        return 1
    print(table(results))
    p99 = percentile(results[0].last, 99)
    is_kept = p99 <= PROMISED_MS
    verdict = "kept" if is_kept else "NOT KEPT"
    print(
        f"{options.subscribers:,} subscribers, {options.rate:g} entries/s each: the last one has an entry after "
        f"{p99:.0f} ms at p99; {PROMISED_MS:g} promised: {verdict}"
    )
    return 0 if is_kept else 1


if __name__ == "__main__":
    sys.exit(main())
