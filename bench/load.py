"""Load from outside, by autocannon: one process of its own, pinned by bench/package-lock.json."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
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
    """What is sent again and again, and the one right answer; without one, look at what the requests did."""

    url: str
    document: str
    answer: Any | None
    token: str | None = None
    variables: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Measured:
    """What came of a few seconds of load: answers in a second, milliseconds, and the server's CPU time for one."""

    rate: float
    p50: float
    p99: float
    cpu_microseconds: float | None
    answers: int


def load(request: Request, seconds: float, process: int, connections: int = CONNECTIONS) -> Measured:
    """Send the request for some seconds to the server `process`; raises Wrong unless each answer is right."""
    if not AUTOCANNON.exists():
        raise Wrong("autocannon is missing: `make bench` and `make bench-api` install it where there is Node.js")
    headers = ["-H", "Content-Type=application/json"]
    if request.token is not None:
        headers += ["-H", f"Authorization=Bearer {request.token}"]
    before = cpu_seconds(process)
    done = subprocess.run(
        [
            *("node", str(AUTOCANNON), "--json", "--no-progress", "--idReplacement", "--method", "POST"),
            *("--connections", str(connections), "--duration", f"{seconds:g}", *headers),
            *(("--expectBody", json.dumps(request.answer, separators=(",", ":"))) if request.answer else ()),
            *("--body", json.dumps({"query": request.document, "variables": request.variables}), request.url),
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
    return Measured(answers / found["duration"], found["latency"]["p50"], found["latency"]["p99"], cpu, answers)


def cpu_seconds(process: int) -> float | None:
    """CPU time that a process has used, from proc(5); None where there is no such file."""
    if sys.platform != "linux":
        return None
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
