"""The results of the live log benchmark: every subscriber must have got each entry once."""

from typing import Any

import pytest

from bench.live import Measured, check, table
from bench.load import WrongResult


def entries(*counts: int) -> dict[str, Any]:
    return {"entries": [{"count": count} for count in counts], "others": []}


def test_every_subscriber_must_get_each_entry_once() -> None:
    check(entries(5, 5), 2, 5)
    for wrong in (entries(5, 4), entries(5, 6), entries(5), entries(5, 5, 5), {**entries(5, 5), "others": ["lost"]}):
        with pytest.raises(WrongResult):
            check(wrong, 2, 5)


def test_the_table() -> None:
    line = table([Measured(2_000, 1, first=[1.0, 2.0, 3.0], last=[10.0, 20.0, 400.0], cpu=0.5)]).splitlines()[1]
    assert line.split() == ["2,000", "1", "3", "2.0", "20.0", "400.0", "400.0", "50%"]
