"""Matplotlib figures as inline SVG that follows the page's colours, fonts and dark mode.

Colours are drawn as sentinel values and replaced by CSS variables; text stays text.
"""

import io
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 960
INK, MUTED, GRID, PAPER = "#010203", "#010204", "#010205", "#010206"
SERIES = ("#010211", "#010212", "#010213", "#010214", "#010215", "#010216")
GREY = "#010217"

VARIABLES = {
    INK: "currentColor",
    MUTED: "var(--muted)",
    GRID: "var(--grid)",
    PAPER: "var(--paper)",
    GREY: "var(--grey)",
    **{colour: f"var(--s{number})" for number, colour in enumerate(SERIES, 1)},
}
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "relope",
    "text.parse_math": False,
    "font.size": 13.0,
    "axes.edgecolor": GRID,
    "axes.labelcolor": MUTED,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.titlesize": 14.0,
    "axes.titlelocation": "left",
    "axes.titlecolor": INK,
    "grid.color": GRID,
    "grid.linewidth": 1.0,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 0.0,
    "ytick.major.size": 0.0,
    # A number at the foot of the vertical axis reaches half its height below it.
    "xtick.major.pad": 9.0,
    "lines.solid_capstyle": "round",
}


def draw(name: str, description: str, height: int, paint: "Callable[[Figure], None]", width: int = WIDTH) -> Markup:
    """Return a figure as an ``<svg>`` element; its unit is one CSS pixel.

    Args:
        name: prefix of every id, unique on the page.
        description: what the figure shows, for those who cannot see it.
        height: in pixels.
        paint: draws on the empty figure with the sentinel colours.
        width: in pixels.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(STYLE):
        figure = Figure(figsize=(width / 72, height / 72), dpi=72)
        paint(figure)
        return _to_svg(figure, name, description)


def add_panel(figure: "Figure", left: float, bottom: float, right: float, top: float) -> "Axes":
    """Return axes that leave so many pixels free on each side of the figure."""
    width, height = figure.get_size_inches() * 72
    axes = figure.add_axes((left / width, bottom / height, 1 - (left + right) / width, 1 - (bottom + top) / height))
    return axes


def _to_svg(figure: "Figure", name: str, description: str) -> Markup:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\s*xmlns(:\w+)?="[^"]*"', "", text).replace("xlink:href", "href")
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r'(href="|url\()#', rf"\1#{name}-", text)
    text = re.sub(r"font: ([^;\"']*?)(\d+(?:\.\d+)?)px [^;\"]*", _font, text)
    for colour, variable in VARIABLES.items():
        text = text.replace(colour, variable)
    text = re.sub(r'<svg width="[^"]*" height="[^"]*"', "", text, count=1).replace(' version="1.1"', "")
    return Markup('<svg class="figure" role="img" aria-label="{}"').format(description) + Markup(text)


def _font(match: re.Match[str]) -> str:
    weight = "font-weight: 600; " if re.search(r"bold|[6-9]00", match[1]) else ""
    return f"{weight}font-size: {match[2]}px"


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Move positions as little as needed so that neighbours are at least ``gap`` apart.

    Positions stay within [low, high] as long as there is room. Runs that touch are merged and
    centred on the mean of what they wanted.
    """
    runs: list[list[int]] = []

    def start(run: list[int]) -> float:
        middle = sum(wanted[index] for index in run) / len(run)
        length = gap * (len(run) - 1)
        return max(low, min(middle - length / 2, high - length))

    for index in sorted(range(len(wanted)), key=lambda index: wanted[index]):
        runs.append([index])
        while len(runs) > 1 and start(runs[-2]) + gap * len(runs[-2]) > start(runs[-1]):
            last = runs.pop()
            runs[-1].extend(last)
    moved = [0.0] * len(wanted)
    for run in runs:
        for step, index in enumerate(run):
            moved[index] = start(run) + gap * step
    return moved
