"""Load from outside, by autocannon: one process of its own, pinned by bench/package-lock.json."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

AUTOCANNON = Path(__file__).parent / "node_modules/autocannon/autocannon.js"
#: Requests under way at the same time; each has a connection of its own.
CONNECTIONS = 32
#: What autocannon replaces in each request by an id that was never there before.
UNIQUE = "[<id>]"


class Wrong(Exception):
    """An answer was not the one that was expected, or there was none."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is sent again and again, and the one right answer."""

    url: str
    document: str
    answer: Any
    token: str | None = None


@dataclass(frozen=True, slots=True)
class Measured:
    """What came of a few seconds of load: answers in a second, milliseconds, and the server's CPU time for one."""

    rate: float
    p50: float
    p99: float
    cpu_microseconds: float | None


def load(request: Request, seconds: float, process: int) -> Measured:
    """Send the request for some seconds to the server `process`; raises Wrong unless each answer is right."""
    headers = ["-H", "Content-Type=application/json"]
    if request.token is not None:
        headers += ["-H", f"Authorization=Bearer {request.token}"]
    before = cpu_seconds(process)
    done = subprocess.run(
        [
            *("node", str(AUTOCANNON), "--json", "--no-progress", "--idReplacement", "--method", "POST"),
            *("--connections", str(CONNECTIONS), "--duration", f"{seconds:g}", *headers),
            *("--expectBody", json.dumps(request.answer, separators=(",", ":"))),
            *("--body", json.dumps({"query": request.document}), request.url),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds + 60,
    )
    if done.returncode:
        raise Wrong(f"autocannon ended with {done.returncode}: {done.stderr.strip()[-500:]}")
    after = cpu_seconds(process)
    found = json.loads(done.stdout)
    wrong = {name: found[name] for name in ("errors", "timeouts", "mismatches", "non2xx") if found[name]}
    answers = found["2xx"]
    if wrong or not answers:
        raise Wrong(f"{request.url}: {answers} answers of status 2xx, but {wrong or 'nothing else'}")
    cpu = (after - before) / answers * 1e6 if before is not None and after is not None else None
    return Measured(answers / found["duration"], found["latency"]["p50"], found["latency"]["p99"], cpu)


def cpu_seconds(process: int) -> float | None:
    """CPU time that a process has used, from proc(5); None where there is no such file."""
    if sys.platform != "linux":
        return None
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
