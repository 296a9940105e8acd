"""The results as a table for terminals, as Markdown, and as JSON."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from bench.figures import Figure, Result

HEADINGS = ("figure", "promised", "aim", "measured", "spread", "kept", "measured with")


def amount(figure: Figure, value: float | None) -> str:
    """Return a value with about three digits and the figure's unit."""
    if value is None:
        return ""
    if value < 10:
        number = f"{value:.2f}".rstrip("0").rstrip(".")
    elif value < 100:
        number = f"{value:.1f}".rstrip("0").rstrip(".")
    else:
        number = f"{value:,.0f}"
    return f"{number} {figure.unit}"


def promise(figure: Figure) -> str:
    """Return the promise in words."""
    limit = "at most" if figure.at_most else "at least"
    return f"{limit} {amount(figure, figure.promised)}"


def row(result: Result) -> tuple[str, ...]:
    """Return the cells of a figure, in the order of HEADINGS."""
    figure = result.figure
    promised = (figure.title, promise(figure), amount(figure, figure.aim))
    if result.wrong:
        return (*promised, "", "", "no", f"wrong: {result.wrong}")
    unit = f" {figure.unit}"
    low = amount(figure, min(result.values)).removesuffix(unit)
    high = amount(figure, max(result.values)).removesuffix(unit)
    verdict = "yes" if result.is_kept else "no"
    return (*promised, amount(figure, result.value), f"{low} to {high}", verdict, result.size)


def table(results: Sequence[Result]) -> str:
    """Return the results for a terminal."""
    rows = [HEADINGS, *(row(result) for result in results)]
    widths = [max(len(cells[at]) for cells in rows) for at in range(len(HEADINGS) - 1)]
    lines = []
    for cells in rows:
        padded = [cell.ljust(width) for cell, width in zip(cells, widths, strict=False)]
        lines.append("  ".join([*padded, cells[-1]]))
    return "\n".join(lines)


def markdown(results: Sequence[Result]) -> str:
    """Return the results as a Markdown table."""
    rows = [HEADINGS, ("---",) * len(HEADINGS), *(row(result) for result in results)]
    lines = []
    for cells in rows:
        escaped = [cell.replace("|", "¦") for cell in cells]
        lines.append(f"| {' | '.join(escaped)} |")
    return "\n".join(lines)


def as_json(results: Sequence[Result], about: Mapping[str, Any]) -> str:
    """Return the results as JSON. `about` has facts about the run, and the details of its values."""
    figures = [
        {
            "name": result.figure.name,
            "title": result.figure.title,
            "unit": result.figure.unit,
            "promised": result.figure.promised,
            "aim": result.figure.aim,
            "at_most": result.figure.at_most,
            "size": result.size,
            "values": list(result.values),
            "wrong": result.wrong,
        }
        for result in results
    ]
    return json.dumps({**about, "figures": figures}, indent=1, ensure_ascii=False) + "\n"


def from_json(text: str) -> list[Result]:
    """Return the results that `as_json` wrote."""
    results = []
    for stored in json.loads(text)["figures"]:
        figure = Figure(
            name=stored["name"],
            title=stored["title"],
            unit=stored["unit"],
            promised=stored["promised"],
            aim=stored["aim"],
            at_most=stored["at_most"],
        )
        results.append(Result(figure, size=stored["size"], values=stored["values"], wrong=stored["wrong"]))
    return results
