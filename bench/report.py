"""What was measured, for people (a table, also in Markdown) and for programs (JSON)."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from bench.figures import Figure, Result

HEADINGS = ("figure", "promised", "aim", "measured", "spread", "kept", "measured with")


def amount(figure: Figure, value: float | None) -> str:
    """A value in the figure's unit."""
    if value is None:
        return ""
    digits = 2 if value < 10 else 1 if value < 100 else 0
    text = f"{value:,.{digits}f}"
    return f"{text.rstrip('0').rstrip('.') if '.' in text else text} {figure.unit}"


def promise(figure: Figure) -> str:
    """What is promised."""
    return f"{'at most' if figure.at_most else 'at least'} {amount(figure, figure.promised)}"


def row(result: Result) -> tuple[str, ...]:
    """A figure's cells."""
    figure = result.figure
    told = (figure.title, promise(figure), amount(figure, figure.aim))
    if result.wrong:
        return (*told, "", "", "no", f"wrong: {result.wrong}")
    low, high = (amount(figure, value).removesuffix(f" {figure.unit}") for value in spread(result))
    measured = (amount(figure, result.value), f"{low} to {high}", "yes" if result.kept else "no")
    return (*told, *measured, result.size)


def spread(result: Result) -> tuple[float, float]:
    """The least and the greatest value."""
    return min(result.values), max(result.values)


def table(results: Sequence[Result]) -> str:
    """The results for a terminal."""
    rows = [HEADINGS, *(row(result) for result in results)]
    widths = [max(len(cells[at]) for cells in rows) for at in range(len(HEADINGS) - 1)]
    return "\n".join(
        "  ".join([*(cell.ljust(width) for cell, width in zip(cells, widths, strict=False)), cells[-1]])
        for cells in rows
    )


def markdown(results: Sequence[Result]) -> str:
    """The results for the README."""
    lines = [HEADINGS, tuple("---" for _ in HEADINGS), *(row(result) for result in results)]
    return "\n".join(f"| {' | '.join(cell.replace('|', '¦') for cell in cells)} |" for cells in lines)


def as_json(results: Sequence[Result], about: Mapping[str, Any]) -> str:
    """All that was measured; `about` says on what, and what the values were made of."""
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
    """The results that `as_json` wrote."""
    return [
        Result(
            Figure(one["name"], one["title"], one["unit"], one["promised"], one["aim"], one["at_most"]),
            one["size"],
            one["values"],
            one["wrong"],
        )
        for one in json.loads(text)["figures"]
    ]
