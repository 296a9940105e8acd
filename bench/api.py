"""`make bench-api`: compares the API with plain Strawberry in one run.

The promise: Ringback responds to `{ __typename }`, authenticated and with all limits on, at least PROMISED_RATIO times
as often as a plain Strawberry application to `{ hello }`. The targets take turns (A B C, C B A, …) in short rounds, so
that a shared machine slows all of them alike. The result is the median of the rounds' ratios. Exits with 1 if the
promise is not kept or a response is wrong.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from bench.load import AUTOCANNON, UNIQUE, Measured, Request, WrongResult, load
from tests.support.program import Program

PROMISED_RATIO = 3.0
#: The target that the others are compared with.
BASE = "plain Strawberry, { hello }"
OURS = "Ringback, { __typename }"
LIMIT = "bare Starlette, JSON"

HELLO = {"data": {"hello": "world"}}
VIEWER = "{ viewer { token { name role } } }"
VIEWER_ANSWER = {"data": {"viewer": {"token": {"name": "RINGBACK_ADMIN_TOKEN", "role": "ADMIN"}}}}

Target = tuple[Request, int]
Rounds = Mapping[str, Sequence[Measured]]


@contextmanager
def run_plain(name: str) -> Iterator[tuple[str, int]]:
    """Run a plain application. Yields its URL and process id."""
    command = [sys.executable, "-m", "bench.plain", name]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().split()[-1] + "/", process.pid
        finally:
            process.terminate()


@contextmanager
def run_targets() -> Iterator[dict[str, Target]]:
    """Run all programs to compare. Yields a request and a process id by the target's name."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        program = stack.enter_context(Program(folder, "api"))
        assert program.process is not None
        url, process, token = f"{program.url}/graphql", program.process.pid, program.token
        strawberry, starlette = (stack.enter_context(run_plain(name)) for name in ("strawberry", "starlette"))

        def ringback(document: str, answer: Any) -> Target:
            return Request(url, document, answer, token), process

        yield {
            BASE: (Request(strawberry[0], "{ hello }", HELLO), strawberry[1]),
            OURS: ringback("{ __typename }", {"data": {"__typename": "Query"}}),
            "Ringback, the viewer": ringback(VIEWER, VIEWER_ANSWER),
            "Ringback, the viewer, uncached": ringback(f"# {UNIQUE}\n{VIEWER}", VIEWER_ANSWER),
            LIMIT: (Request(starlette[0], "{ hello }", HELLO), starlette[1]),
        }


def measure(targets: Mapping[str, Target], rounds: int, seconds: float, report: Callable[[str], None]) -> Rounds:
    """Measure each target once per round, after a warm-up of one second."""
    for request, process in targets.values():
        load(request, 1, process)
    results: dict[str, list[Measured]] = {name: [] for name in targets}
    for number in range(rounds):
        report(f"round {number + 1} of {rounds}")
        names = list(targets)
        if number % 2:
            names.reverse()
        for name in names:
            request, process = targets[name]
            results[name].append(load(request, seconds, process))
    return results


def ratios(results: Rounds, name: str) -> list[float]:
    """Return the rates divided by those of the base in the same round, in ascending order."""
    rounds = zip(results[name], results[BASE], strict=True)
    return sorted(measured.rate / base.rate for measured, base in rounds)


def table(results: Rounds) -> str:
    """Return the results for a terminal: medians, and the range of the ratios."""
    lines = [f"{'':34}{'requests/s':>11}{'p50 ms':>8}{'p99 ms':>8}{'CPU µs':>8}{'ratio':>8}  min to max"]
    for name, rounds in results.items():
        lines.append(_row(name, rounds, ratios(results, name)))
    return "\n".join(lines)


def _row(name: str, rounds: Sequence[Measured], ratios: Sequence[float]) -> str:
    rate = median(measured.rate for measured in rounds)
    p50 = median(measured.p50 for measured in rounds)
    p99 = median(measured.p99 for measured in rounds)
    cpu_times = [measured.cpu_microseconds for measured in rounds if measured.cpu_microseconds is not None]
    cpu = f"{median(cpu_times):.0f}" if cpu_times else ""
    return (
        f"{name:34}{rate:11,.0f}{p50:8.1f}{p99:8.1f}{cpu:>8}{median(ratios):8.2f}  {ratios[0]:.2f} to {ratios[-1]:.2f}"
    )


def as_json(results: Rounds) -> dict[str, Any]:
    """Return the results for programs."""
    targets = {}
    for name, rounds in results.items():
        of_rounds = ratios(results, name)
        rates = [measured.rate for measured in rounds]
        targets[name] = {"ratio": median(of_rounds), "ratios": of_rounds, "rates": rates}
    return {"promised": PROMISED_RATIO, "targets": targets}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print the results. Return 1 if the promise is not kept, 2 if autocannon is missing."""
    parser = argparse.ArgumentParser(prog="bench.api", description="Compare the API with plain Strawberry.")
    parser.add_argument("--rounds", type=int, default=7, help="number of measurements of each target")
    parser.add_argument("--seconds", type=float, default=2, help="seconds per measurement")
    parser.add_argument("--json", type=Path, help="file for the results")
    options = parser.parse_args(arguments)
    if not AUTOCANNON.exists():
        print("autocannon is missing. Install Node.js and run `make bench-api`, which installs it.", file=sys.stderr)
        return 2
    try:
        with run_targets() as targets:
            results = measure(targets, options.rounds, options.seconds, partial(print, file=sys.stderr))
    except WrongResult as wrong:
        print(f"No result: {wrong}", file=sys.stderr)
        return 1
    print(table(results))
    if options.json is not None:
        options.json.write_text(json.dumps(as_json(results), indent=2) + "\n")
    ratio = median(ratios(results, OURS))
    is_kept = ratio >= PROMISED_RATIO
    verdict = "kept" if is_kept else "NOT KEPT"
    print(f"{OURS}: {ratio:.2f} times plain Strawberry; {PROMISED_RATIO:g} promised: {verdict}")
    return 0 if is_kept else 1


if __name__ == "__main__":
    sys.exit(main())
