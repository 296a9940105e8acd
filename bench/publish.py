"""Writes what was measured: JSON and the chart, and on request the README's table, which so has no figure by hand."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.chart import chart
from bench.figures import Result
from bench.report import as_json, markdown

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs/benchmarks.md"
#: What the README shows was made of.
PUBLISHED = ROOT / "bench/results"
TITLE = "What is promised of Ringback's speed, and what was measured"
_TABLE = re.compile(r"(?<=<!-- figures -->\n).*?(?=<!-- /figures -->)", re.DOTALL)


def write(folder: Path, results: Sequence[Result], about: dict[str, Any]) -> None:
    """`figures.json` and `figures.svg`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "figures.json").write_text(as_json(results, about))
    (folder / "figures.svg").write_text(chart(results, TITLE))


def with_table(readme: str, results: Sequence[Result], about: dict[str, Any]) -> str:
    """The README with the figures between its marks."""
    told = f"Measured on {about['date']} with Ringback {about['version']} on {about['machine']}"
    picture = f"![{TITLE}](../{(PUBLISHED / 'figures.svg').relative_to(ROOT)})"
    return _TABLE.sub(lambda _: f"{picture}\n\n{told}:\n\n{markdown(results)}\n", readme)


def publish(results: Sequence[Result], about: dict[str, Any]) -> None:
    """Put the results into the repository: for the README, and in it."""
    write(PUBLISHED, results, about)
    PAGE.write_text(with_table(PAGE.read_text(), results, about))
