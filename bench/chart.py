"""The figures as a picture for the README: how each stands to its promise.

All figures have one scale: what was promised is the line at 1, and to the right of it is better. So a time or a memory
is drawn as what was promised over what was measured, a rate as what was measured over what was promised. It is an SVG
of rectangles and text, which needs no library.
"""

from collections.abc import Sequence
from html import escape

from bench.figures import Figure, Result
from bench.report import amount, promise

WIDTH, LABEL, VALUE, ROW, TOP, BOTTOM = 960, 420, 140, 26, 34, 42
#: The end of the scale, in promises; what is better still is drawn to here.
END = 4.0
KEPT, BROKEN, LINE, INK, PAPER = "#2f7d5b", "#b5452c", "#6b7280", "#1f2933", "#ffffff"


def chart(results: Sequence[Result], title: str) -> str:
    """The picture."""
    height = TOP + ROW * len(results) + BOTTOM
    middle = f"{TOP + ROW * len(results)}"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'font-family="sans-serif" font-size="13">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="{PAPER}"/>',
        f'<text x="12" y="21" fill="{INK}" font-weight="bold">{escape(title)}</text>',
        *(line for number, result in enumerate(results) for line in _row(result, TOP + ROW * number)),
    ]
    for at in range(int(END) + 1):
        parts.append(
            f'<line x1="{_x(at):.1f}" x2="{_x(at):.1f}" y1="{TOP}" y2="{middle}" stroke="{LINE}" '
            f'stroke-width="{2 if at == 1 else 0.5}"/>'
        )
        label = "promised" if at == 1 else f"{at} ×"
        parts.append(f'<text x="{_x(at):.1f}" y="{int(middle) + 16}" fill="{INK}" text-anchor="middle">{label}</text>')
    note = "bars: the median; whiskers: the least and the greatest value; further right is better"
    parts.append(f'<text x="12" y="{height - 8}" fill="{LINE}" font-size="11">{note}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _row(result: Result, y: int) -> list[str]:
    figure = result.figure
    label = f'<text x="12" y="{y + 17}" fill="{INK}">{escape(figure.title)}</text>'
    if not result.values:
        return [label, f'<text x="{LABEL + 6}" y="{y + 17}" fill="{BROKEN}">not measured: a result was wrong</text>']
    ends = sorted(_x(share(figure, value)) for value in (min(result.values), max(result.values)))
    end, middle = _x(share(figure, result.value)), y + ROW / 2
    told = f"{promise(figure)}; measured {amount(figure, result.value)} with {result.size}"
    return [
        label,
        f'<rect x="{LABEL}" y="{y + 5}" width="{end - LABEL:.1f}" height="{ROW - 10}" '
        f'fill="{KEPT if result.kept else BROKEN}"><title>{escape(told)}</title></rect>',
        f'<line x1="{ends[0]:.1f}" x2="{ends[1]:.1f}" y1="{middle}" y2="{middle}" stroke="{INK}" stroke-width="2"/>',
        f'<text x="{WIDTH - VALUE + 12}" y="{y + 17}" fill="{INK}">{escape(amount(figure, result.value))}</text>',
    ]


def share(figure: Figure, value: float) -> float:
    """How a value stands to its promise; more than 1 is better than promised."""
    return figure.promised / value if figure.at_most else value / figure.promised


def _x(promises: float) -> float:
    return LABEL + min(promises, END) / END * (WIDTH - LABEL - VALUE)
