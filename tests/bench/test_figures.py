"""The results of the benchmark: ratios of pairs, a table, JSON, a chart, and the section of the README."""

import json
import re
from xml.etree import ElementTree

import pytest

from bench.chart import chart, share
from bench.figures import Figure, Measured, Result, Scale, Side, compare_pairs, format_count, percentile, run_pairs
from bench.publish import PAGE, PUBLISHED, TITLE, with_table
from bench.report import as_json, from_json, markdown, table

RATE = Figure("first", "delivery", "× bare loop", 0.5, 0.7)
TIME = Figure("lateness", "lateness, p99", "ms", 100, 20, at_most=True)
KEPT = Result(RATE, "1,000 events", [0.4, 0.61, 0.5])
BROKEN = Result(TIME, "1 s", [1234.0])
WRONG = Result(TIME, values=[], wrong="2 of 3 requests came")
ABOUT = {"date": "2026-01-31", "version": "0.1.0", "machine": "2 cores"}


@pytest.mark.parametrize(("share", "expected"), [(0, 1), (50, 50), (99, 99), (99.5, 100), (100, 100)])
def test_percentiles_are_measured_values(share: float, expected: float) -> None:
    assert percentile([float(n) for n in range(100, 0, -1)], share) == expected


def test_of_few_values_the_99th_percentile_is_the_maximum() -> None:
    assert percentile([3.0, 9.0, 1.0], 99) == 9.0


def test_pairs_take_turns() -> None:
    order: list[str] = []

    def measured(name: str, value: float) -> float:
        order.append(name)
        return value

    results = run_pairs(3, lambda: measured("A", 1.0), lambda: measured("B", 2.0))
    assert results == [(1.0, 2.0)] * 3
    assert "".join(order) == "ABBAAB"


def test_a_ratio_is_of_its_own_pair() -> None:
    limits, ours = iter([100.0, 50.0]), iter([50.0, 40.0])
    measured = compare_pairs(
        "first", "9 events", 2, Side("bare", lambda: next(limits)), Side("ours", lambda: next(ours))
    )
    assert measured == Measured(
        "9 events, 2 pairs", {"first": [0.5, 0.8]}, {"bare": [100.0, 50.0], "ours": [50.0, 40.0]}
    )


def test_a_scale_never_falls_below_the_minimum() -> None:
    assert [Scale(0.1).of(20_000), Scale(0.0001).of(20_000, 200), Scale().of(5)] == [2_000, 200, 5]
    assert [format_count(1, "pair"), format_count(2_000, "pair")] == ["1 pair", "2,000 pairs"]


@pytest.mark.parametrize(
    ("value", "rate_kept", "time_kept"), [(0.49, False, True), (0.5, True, True), (101, True, False)]
)
def test_a_promise_is_a_minimum_or_a_maximum(value: float, rate_kept: bool, time_kept: bool) -> None:
    assert (Result(RATE, "", [value]).is_kept, Result(TIME, "", [value]).is_kept) == (rate_kept, time_kept)


def test_a_wrong_result_keeps_no_promise() -> None:
    assert not WRONG.is_kept
    assert not Result(RATE, "", [9.0], wrong="twice").is_kept


def test_the_table_has_a_row_for_each_result() -> None:
    lines = [re.split("  +", line) for line in table([KEPT, BROKEN, WRONG]).splitlines()]
    assert lines[1] == [
        "delivery", "at least 0.5 × bare loop", "0.7 × bare loop", "0.5 × bare loop", "0.4 to 0.61", "yes",
        "1,000 events",
    ]  # fmt: skip
    assert lines[2] == ["lateness, p99", "at most 100 ms", "20 ms", "1,234 ms", "1,234 to 1,234", "no", "1 s"]
    assert lines[3] == ["lateness, p99", "at most 100 ms", "20 ms", "no", "wrong: 2 of 3 requests came"]
    assert len(markdown([KEPT, WRONG]).splitlines()) == 4


def test_json_contains_everything() -> None:
    text = as_json([KEPT, BROKEN, WRONG], {**ABOUT, "scale": 0.1})
    assert from_json(text) == [KEPT, BROKEN, WRONG]
    assert json.loads(text)["scale"] == 0.1


def test_the_chart_draws_each_figure_by_its_promise() -> None:
    assert (share(RATE, 0.25), share(TIME, 200.0)) == (0.5, 0.5)
    drawn = ElementTree.fromstring(chart([KEPT, BROKEN, WRONG], "how & why"))
    svg = "{http://www.w3.org/2000/svg}"
    _, kept, broken = drawn.findall(f"{svg}rect")
    assert (kept.get("width"), broken.get("width")) == ("100.0", "8.1")
    assert kept.get("fill") != broken.get("fill")
    texts = [text.text for text in drawn.findall(f"{svg}text")]
    assert "not measured: a result was wrong" in texts
    assert drawn.findtext(f"{svg}title") == "how & why"


def test_the_page_shows_the_published_results() -> None:
    page = PAGE.read_text()
    path = PUBLISHED / "figures.json"
    if not path.exists():
        assert "<!-- figures -->\n<!-- /figures -->" in page
        return
    results, about = from_json(path.read_text()), json.loads(path.read_text())
    assert with_table(page, results, about) == page
    assert (PUBLISHED / "figures.svg").read_text() == chart(results, TITLE)


def test_new_figures_replace_the_former_ones() -> None:
    page = "before\n<!-- figures -->\nformer\n<!-- /figures -->\nafter\n"
    once = with_table(page, [KEPT], ABOUT)
    assert once.startswith("before\n<!-- figures -->\n![")
    assert "former" not in once
    assert markdown([KEPT]) in once
    assert once.endswith("\n<!-- /figures -->\nafter\n")
    assert with_table(once, [KEPT], ABOUT) == once
