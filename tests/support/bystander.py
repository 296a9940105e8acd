"""What an attack costs others: how much longer another client waits, and how much more memory the program takes."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.support.program import Program

#: Seconds for which the client is measured without the attack.
CONTROL_SECONDS = 1.0
#: Pause between two readings of the program's memory, in seconds.
SAMPLE_SECONDS = 0.05
#: What an attack may cost.
MAX_DELAY_MS = 250.0
MAX_MEMORY_MB = 64.0


class AttackCost:
    """What an attack cost. Complete when the block of `measure_attack` has ended.

    `delay_ms` is the difference between the 99th percentiles of the client's waits with and without the attack.
    `memory_mb` is the highest resident memory during the attack less that before it.
    """

    def __init__(self) -> None:
        self.delay_ms = 0.0
        self.longest_ms = 0.0
        self.memory_mb = 0.0
        self.seconds = 0.0
        self.answers = 0

    def check(self) -> None:
        """Print the cost and fail if it is too high."""
        print(f"attack of {self.seconds:.1f} s: {self}")
        assert self.answers > 0, "the client got no answer during the attack"
        assert self.delay_ms <= MAX_DELAY_MS, f"another client waited {self.delay_ms:.0f} ms longer (p99)"
        assert self.memory_mb <= MAX_MEMORY_MB, f"the program took {self.memory_mb:.0f} MB"

    def __str__(self) -> str:
        return f"p99 +{self.delay_ms:.0f} ms, longest {self.longest_ms:.0f} ms, memory +{self.memory_mb:.0f} MB"


@contextmanager
def measure_attack(program: Program) -> Iterator[AttackCost]:
    """Measure what the attack in the block costs other clients of `program`. The client is a process of its own."""
    assert program.process is not None
    cost = AttackCost()
    client = subprocess.Popen(
        [sys.executable, "-m", "tests.support.bystander_client", program.url, program.token],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert client.stdout is not None
    try:
        client.stdout.readline()  # its first answer
        time.sleep(CONTROL_SECONDS)
        memory_before = read_resident_mb(program.process.pid)
        began = time.time()
        with _sample_memory(program.process.pid) as samples:
            yield cost
            # The client's last request counts too.
            time.sleep(2 * SAMPLE_SECONDS)
        ended = time.time()
        waits = json.loads(client.communicate(timeout=120)[0])
    finally:
        client.kill()
        client.communicate()
    control = [seconds for at, seconds in waits if at + seconds < began]
    attacked = [seconds for at, seconds in waits if began <= at + seconds and at < ended]
    cost.answers = len(attacked)
    if attacked:
        cost.delay_ms = (_p99(attacked) - _p99(control)) * 1e3
        cost.longest_ms = max(attacked) * 1e3
    cost.memory_mb = max(samples) - memory_before
    cost.seconds = ended - began


def _p99(values: Sequence[float]) -> float:
    return sorted(values)[int(len(values) * 0.99)]


def read_resident_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) / 1024


@contextmanager
def _sample_memory(pid: int) -> Iterator[list[float]]:
    """Collect the resident memory of a process while the block runs, in MB."""
    samples = [read_resident_mb(pid)]
    stop = threading.Event()

    def sample() -> None:
        while not stop.wait(SAMPLE_SECONDS):
            samples.append(read_resident_mb(pid))

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield samples
    finally:
        stop.set()
        thread.join()
