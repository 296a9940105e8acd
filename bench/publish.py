"""Writes the results: JSON and the chart, and on request the table in the README."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.chart import chart
from bench.figures import Result
from bench.report import as_json, markdown

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs/benchmarks.md"
#: The results that the page shows.
PUBLISHED = ROOT / "bench/results"
TITLE = "Promised and measured performance of Ringback"
_TABLE = re.compile(r"(?<=<!-- figures -->\n).*?(?=<!-- /figures -->)", re.DOTALL)


def write(folder: Path, results: Sequence[Result], about: dict[str, Any]) -> None:
    """Write `figures.json` and `figures.svg` into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "figures.json").write_text(as_json(results, about))
    (folder / "figures.svg").write_text(chart(results, TITLE))


def with_table(page: str, results: Sequence[Result], about: dict[str, Any]) -> str:
    """Return the page with the chart and the table between its markers."""
    caption = f"Measured on {about['date']} with Ringback {about['version']} on {about['machine']}"
    picture = f"![{TITLE}](../{(PUBLISHED / 'figures.svg').relative_to(ROOT)})"
    return _TABLE.sub(lambda _: f"{picture}\n\n{caption}:\n\n{markdown(results)}\n", page)


def publish(results: Sequence[Result], about: dict[str, Any]) -> None:
    """Update the results in the repository, and docs/benchmarks.md."""
    write(PUBLISHED, results, about)
    PAGE.write_text(with_table(PAGE.read_text(), results, about))
