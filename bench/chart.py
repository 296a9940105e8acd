"""The README's chart: each figure relative to its promise, as an SVG of rectangles and text.

All figures share one scale: the promise is the line at 1, and further right is better. So times and memory are drawn as
promised / measured, rates as measured / promised.
"""

from collections.abc import Sequence
from html import escape

from bench.figures import Figure, Result
from bench.report import amount, promise

WIDTH, LABEL, VALUE, ROW, TOP, BOTTOM = 960, 420, 140, 26, 34, 42
#: The end of the scale. Better values are drawn to here.
END = 4.0
KEPT, BROKEN, LINE, INK, PAPER = "#2f7d5b", "#b5452c", "#6b7280", "#1f2933", "#ffffff"


def chart(results: Sequence[Result], title: str) -> str:
    """Return the chart as an SVG document."""
    height = TOP + ROW * len(results) + BOTTOM
    bottom = TOP + ROW * len(results)
    rows = [line for number, result in enumerate(results) for line in _row(result, TOP + ROW * number)]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'font-family="sans-serif" font-size="13">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="{PAPER}"/>',
        f'<text x="12" y="21" fill="{INK}" font-weight="bold">{escape(title)}</text>',
        *rows,
    ]
    for at in range(int(END) + 1):
        stroke_width = 2 if at == 1 else 0.5
        parts.append(
            f'<line x1="{_x(at):.1f}" x2="{_x(at):.1f}" y1="{TOP}" y2="{bottom}" stroke="{LINE}" '
            f'stroke-width="{stroke_width}"/>'
        )
        label = "promised" if at == 1 else f"{at} ×"
        parts.append(f'<text x="{_x(at):.1f}" y="{bottom + 16}" fill="{INK}" text-anchor="middle">{label}</text>')
    note = "bars: median; whiskers: minimum and maximum; further right is better"
    parts.append(f'<text x="12" y="{height - 8}" fill="{LINE}" font-size="11">{note}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _row(result: Result, y: int) -> list[str]:
    figure = result.figure
    label = f'<text x="12" y="{y + 17}" fill="{INK}">{escape(figure.title)}</text>'
    if not result.values:
        return [label, f'<text x="{LABEL + 6}" y="{y + 17}" fill="{BROKEN}">not measured: a result was wrong</text>']
    ends = sorted(_x(share(figure, value)) for value in (min(result.values), max(result.values)))
    end, middle = _x(share(figure, result.value)), y + ROW / 2
    tooltip = f"{promise(figure)}; measured {amount(figure, result.value)} with {result.size}"
    color = KEPT if result.is_kept else BROKEN
    return [
        label,
        f'<rect x="{LABEL}" y="{y + 5}" width="{end - LABEL:.1f}" height="{ROW - 10}" '
        f'fill="{color}"><title>{escape(tooltip)}</title></rect>',
        f'<line x1="{ends[0]:.1f}" x2="{ends[1]:.1f}" y1="{middle}" y2="{middle}" stroke="{INK}" stroke-width="2"/>',
        f'<text x="{WIDTH - VALUE + 12}" y="{y + 17}" fill="{INK}">{escape(amount(figure, result.value))}</text>',
    ]


def share(figure: Figure, value: float) -> float:
    """Return a value relative to its promise. Above 1 is better than promised."""
    return figure.promised / value if figure.at_most else value / figure.promised


def _x(promises: float) -> float:
    return LABEL + min(promises, END) / END * (WIDTH - LABEL - VALUE)
