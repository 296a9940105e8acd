"""`make bench-api`: the API's speed against plain Strawberry's, measured in one run.

The promise: `{ __typename }`, authenticated and with all limits on, is answered at least PROMISED times as often as a
plain Strawberry application's `{ hello }`. What is compared takes turns (A B C, C B A, …) in short rounds, so that a
machine that others use too slows all of it alike; what counts is the median of the rounds' ratios. The exit code is 1
when the promise is not met, and when any answer was wrong.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from bench.load import AUTOCANNON, UNIQUE, Measured, Request, Wrong, load
from tests.support.program import Program

#: The median of the rounds' ratios must be at least this.
PROMISED = 3.0
#: What the others are compared with.
BASE = "plain Strawberry, { hello }"
OURS = "Ringback, { __typename }"
LIMIT = "bare Starlette, JSON"

HELLO = {"data": {"hello": "world"}}
VIEWER = "{ viewer { token { name role } } }"
VIEWER_ANSWER = {"data": {"viewer": {"token": {"name": "RINGBACK_ADMIN_TOKEN", "role": "ADMIN"}}}}

Target = tuple[Request, int]
Rounds = Mapping[str, Sequence[Measured]]


@contextmanager
def plain(name: str) -> Iterator[tuple[str, int]]:
    """The address and process of a plain application, which ends with the block."""
    command = [sys.executable, "-m", "bench.plain", name]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().split()[-1] + "/", process.pid
        finally:
            process.terminate()


@contextmanager
def targets() -> Iterator[dict[str, Target]]:
    """What is compared, running."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        program = stack.enter_context(Program(folder, "api"))
        assert program.process is not None
        url, process, token = f"{program.url}/graphql", program.process.pid, program.token
        strawberry, starlette = (stack.enter_context(plain(name)) for name in ("strawberry", "starlette"))

        def ours(document: str, answer: Any) -> Target:
            return Request(url, document, answer, token), process

        yield {
            BASE: (Request(strawberry[0], "{ hello }", HELLO), strawberry[1]),
            OURS: ours("{ __typename }", {"data": {"__typename": "Query"}}),
            "Ringback, the viewer": ours(VIEWER, VIEWER_ANSWER),
            "Ringback, the viewer, never seen": ours(f"# {UNIQUE}\n{VIEWER}", VIEWER_ANSWER),
            LIMIT: (Request(starlette[0], "{ hello }", HELLO), starlette[1]),
        }


def measure(found: Mapping[str, Target], rounds: int, seconds: float, say: Callable[[str], None]) -> Rounds:
    """Measurements of each target, one for each round."""
    for request, process in found.values():
        load(request, 1, process)
    results: dict[str, list[Measured]] = {name: [] for name in found}
    for number in range(rounds):
        say(f"round {number + 1} of {rounds}")
        for name in list(found)[:: -1 if number % 2 else 1]:
            request, process = found[name]
            results[name].append(load(request, seconds, process))
    return results


def ratios(results: Rounds, name: str) -> list[float]:
    """How many times as fast as the base, in each round, from the least to the most."""
    return sorted(one.rate / base.rate for one, base in zip(results[name], results[BASE], strict=True))


def table(results: Rounds) -> str:
    """The results for people."""
    lines = [f"{'':34}{'requests/s':>11}{'p50 ms':>8}{'p99 ms':>8}{'CPU µs':>8}{'ratio':>8}  least to most"]
    for name, rounds in results.items():
        found = ratios(results, name)
        cpu = [one.cpu_microseconds for one in rounds if one.cpu_microseconds is not None]
        lines.append(
            f"{name:34}{median(one.rate for one in rounds):11,.0f}{median(one.p50 for one in rounds):8.1f}"
            f"{median(one.p99 for one in rounds):8.1f}{f'{median(cpu):8.0f}' if cpu else '':8}"
            f"{median(found):8.2f}  {found[0]:.2f} to {found[-1]:.2f}"
        )
    return "\n".join(lines)


def as_json(results: Rounds) -> dict[str, Any]:
    """The results for programs."""
    return {
        "promised": PROMISED,
        "targets": {
            name: {"ratio": median(ratios(results, name)), "ratios": ratios(results, name), "rates": rates}
            for name, rates in ((name, [one.rate for one in rounds]) for name, rounds in results.items())
        },
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and say by the exit code whether the promise holds."""
    parser = argparse.ArgumentParser(prog="bench.api", description="The API's speed against plain Strawberry's.")
    parser.add_argument("--rounds", type=int, default=7, help="how often each is measured")
    parser.add_argument("--seconds", type=float, default=2, help="how long each is measured in a round")
    parser.add_argument("--json", type=Path, help="a file for the results")
    options = parser.parse_args(arguments)
    if not AUTOCANNON.exists():
        print("autocannon is missing: run `make bench-api`, which installs it (Node.js is needed)", file=sys.stderr)
        return 2
    try:
        with targets() as found:
            results = measure(found, options.rounds, options.seconds, lambda line: print(line, file=sys.stderr))
    except Wrong as wrong:
        print(f"Measured nothing: {wrong}", file=sys.stderr)
        return 1
    print(table(results))
    if options.json is not None:
        options.json.write_text(json.dumps(as_json(results), indent=2) + "\n")
    ratio = median(ratios(results, OURS))
    kept = ratio >= PROMISED
    print(f"{OURS}: {ratio:.2f} times plain Strawberry; {PROMISED:g} promised: {'kept' if kept else 'NOT KEPT'}")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
