"""The comparison of two commits runs: this tree against itself."""

import json
import sys
from pathlib import Path

import pytest

from bench import __main__ as bench
from bench.against import compare
from bench.checkout import Checkout
from bench.figures import Scale
from tests.support import postgres

ITSELF = Checkout("0123456789abcdef", sys.executable)


@pytest.mark.skipif(postgres.binaries() is None, reason=postgres.HOW)
def test_two_commits_are_compared_in_pairs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    compare(["first", "embedded", "commit"], Scale(0.01, 2), ITSELF, tmp_path)
    printed = capsys.readouterr().out.splitlines()
    about = json.loads((tmp_path / "against-0123456789ab.json").read_text())
    assert (about["old"], about["pairs"]) == (ITSELF.commit, 2)
    expected = [
        ("first", "events/s"),
        ("first", "worker CPU, µs per event"),
        ("first", "Postgres CPU, µs per event"),
        ("embedded", "events/s"),
        ("embedded", "worker CPU, µs per event"),
        ("commit", "commit to received, p50 ms"),
        ("commit", "commit to received, p99 ms"),
        ("commit", "request to received, p50 ms"),
        ("commit", "request to received, p99 ms"),
    ]
    assert [(one["comparison"], one["figure"]) for one in about["figures"]] == expected
    assert [tuple(line.split(": ")[:2]) for line in printed[: len(expected)]] == expected
    for one in about["figures"]:
        assert min(*one["new"], *one["old"]) > 0
        assert one["ratios"] == [new / old for new, old in zip(one["new"], one["old"], strict=True)]


def test_an_unknown_commit_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main(["--against", "nonsense"]) == 1
    expected = "bench: Unknown commit nonsense. Name a commit, tag or branch of this repository.\n"
    assert capsys.readouterr().err == expected
