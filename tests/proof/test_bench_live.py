"""The benchmark of the live log: what it makes of its notes, and that everyone must have got each entry once."""

import re
from typing import Any

import pytest

from bench import live
from bench.live import Measured, check, table
from bench.load import Wrong


def entries(*counts: int) -> dict[str, Any]:
    return {"entries": [{"count": count} for count in counts], "others": []}


def test_everyone_must_get_each_entry_once() -> None:
    check(entries(5, 5), 2, 5)
    for wrong in (entries(5, 4), entries(5, 6), entries(5), entries(5, 5, 5), {**entries(5, 5), "others": ["lost"]}):
        with pytest.raises(Wrong):
            check(wrong, 2, 5)


def test_the_table() -> None:
    line = table([Measured(2_000, 1, first=[1.0, 2.0, 3.0], last=[10.0, 20.0, 400.0], cpu=0.5)]).splitlines()[1]
    assert line.split() == ["2,000", "1", "3", "2.0", "20.0", "400.0", "400.0", "50%"]


def test_a_small_measurement(capsys: pytest.CaptureFixture[str]) -> None:
    code = live.main(["--subscribers", "40", "--rate", "20", "--seconds", "1"])
    printed = capsys.readouterr().out
    assert code == (1 if "NOT KEPT" in printed else 0)
    assert [line.split()[:3] for line in printed.splitlines()[1:3]] == [["40", "1", "20"], ["2", "20", "20"]]
    said = "40 subscribers, 20 entries/s each: the last one has an entry after [0-9]+ ms at p99; 500 promised: "
    assert re.match(said, printed.splitlines()[3])
