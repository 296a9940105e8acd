"""The benchmark of the live log runs against the running program."""

import re

import pytest

from bench import live


def test_a_small_measurement_prints_its_results(capsys: pytest.CaptureFixture[str]) -> None:
    code = live.main(["--subscribers", "40", "--rate", "20", "--seconds", "1"])
    printed = capsys.readouterr().out
    assert code == (1 if "NOT KEPT" in printed else 0)
    assert [line.split()[:3] for line in printed.splitlines()[1:3]] == [["40", "1", "20"], ["2", "20", "20"]]
    expected = "40 subscribers, 20 entries/s each: the last one has an entry after [0-9]+ ms at p99; 500 promised: "
    assert re.match(expected, printed.splitlines()[3])
