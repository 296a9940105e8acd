"""HTTP load from autocannon, in a separate process. bench/package-lock.json pins its version."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

AUTOCANNON = Path(__file__).parent / "node_modules/autocannon/autocannon.js"
#: Requests in flight, each on its own connection.
CONNECTIONS = 32
#: autocannon replaces this with a unique id in each request.
UNIQUE = "[<id>]"


class WrongResult(Exception):
    """A wrong or missing result, which invalidates a figure."""


@dataclass(frozen=True, slots=True)
class Request:
    """A repeated request and its expected response. None: the caller checks what the requests did."""

    url: str
    document: str
    answer: Any | None
    token: str | None = None
    variables: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Measured:
    """The result of a load: responses per second, latency in milliseconds, and the server's CPU time per response."""

    rate: float
    p50: float
    p99: float
    cpu_microseconds: float | None
    answers: int


def load(request: Request, seconds: float, process: int, connections: int = CONNECTIONS) -> Measured:
    """Send the request for `seconds` to the server `process`. Raises WrongResult unless every response is right."""
    if not AUTOCANNON.exists():
        raise WrongResult(
            "autocannon is missing. Install Node.js and run `make bench` or `make bench-api`, which install it."
        )
    headers = ["-H", "Content-Type=application/json"]
    if request.token is not None:
        headers += ["-H", f"Authorization=Bearer {request.token}"]
    command = ["node", str(AUTOCANNON), "--json", "--no-progress", "--idReplacement", "--method", "POST"]
    command += ["--connections", str(connections), "--duration", f"{seconds:g}", *headers]
    if request.answer:
        command += ["--expectBody", json.dumps(request.answer, separators=(",", ":"))]
    body = json.dumps({"query": request.document, "variables": request.variables})
    command += ["--body", body, request.url]
    before = cpu_seconds(process)
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds + 60)
    if done.returncode:
        raise WrongResult(f"autocannon ended with {done.returncode}: {done.stderr.strip()[-500:]}")
    after = cpu_seconds(process)
    report = json.loads(done.stdout)
    wrong = {name: report[name] for name in ("errors", "timeouts", "mismatches", "non2xx") if report[name]}
    answers = report["2xx"]
    if wrong or not answers:
        raise WrongResult(f"{request.url}: {answers} responses of status 2xx, wrong: {wrong}")
    cpu = None
    if before is not None and after is not None:
        cpu = (after - before) / answers * 1e6
    return Measured(
        rate=answers / report["duration"],
        p50=report["latency"]["p50"],
        p99=report["latency"]["p99"],
        cpu_microseconds=cpu,
        answers=answers,
    )


def cpu_seconds(process: int) -> float | None:
    """Return the CPU time of a process in seconds, from proc(5), or None on other systems than Linux."""
    if sys.platform != "linux":
        return None
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
