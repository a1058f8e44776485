"""How the lines of a figure are told apart: by colour, marks and dashes; no two look alike, nor without colour."""

from collections.abc import Sequence
from typing import Any

from relope.evaluate.pages.svg import GREY, SERIES

DASHES: tuple[Any, ...] = ("solid", (0, (5, 2)), (0, (1.5, 1.8)), (0, (7, 2, 1.5, 2)))
"""Lengths of strokes and gaps in line widths; each is used with every colour before the next."""

MARKS = ("", "o", "s", "^", "D", "v", "P")
"""One more than there are colours: lines of one colour have other marks, and differ in print and to every eye."""

CONTROL_DASHES = (DASHES[2], DASHES[1], DASHES[3])

Style = dict[str, Any]
"""Colour, dashes and marks, as matplotlib's ``plot`` takes them."""


def line_style(number: int) -> Style:
    """Return the style of the line of that number, best first: 24 differ in marks or dashes, whatever their colour."""
    dashes = DASHES[number // len(SERIES) % len(DASHES)]
    marks = {"marker": MARKS[number % len(MARKS)], "markersize": 5, "markeredgewidth": 0}
    return {"color": SERIES[number % len(SERIES)], "linestyle": dashes, **marks}


def sparse(number: int) -> Style:
    """Return at which points of a curve of hundreds its marks stand: few, those of neighbours beside each other."""
    return {"markevery": (3 + 5 * (number % 3), 15)}


def key(style: Style) -> Style:
    """Return the style of a short line of three points that stands beside a name: one mark, in its middle."""
    return {**style, "markevery": (1, 2)}


def control_style(number: int) -> Style:
    """Return the style of a control's line: grey, so that nobody takes it for a router."""
    return {"color": GREY, "linestyle": CONTROL_DASHES[number % len(CONTROL_DASHES)]}


def line_styles(names: Sequence[str], controls: Sequence[str] = ()) -> dict[str, Style]:
    """Return the style of each name's line, in the order given; those of controls are grey."""
    routers = [name for name in names if name not in controls]
    grey = [name for name in names if name in controls]
    return {
        **{name: line_style(number) for number, name in enumerate(routers)},
        **{name: control_style(number) for number, name in enumerate(grey)},
    }
