"""How the lines of a figure are told apart: by colour, then by dashes; no two of a figure look alike."""

from collections.abc import Sequence
from typing import Any

from relope.evaluate.pages.svg import GREY, SERIES

DASHES: tuple[Any, ...] = ("solid", (0, (5, 2)), (0, (1.5, 1.8)), (0, (7, 2, 1.5, 2)))
"""Lengths of strokes and gaps in line widths; each is used with every colour before the next."""

CONTROL_DASHES = (DASHES[2], DASHES[1], DASHES[3])

Style = dict[str, Any]
"""Colour and dashes, as matplotlib's ``plot`` takes them."""


def line_style(number: int) -> Style:
    """Return the style of the line of that number, best first: 24 differ."""
    return {"color": SERIES[number % len(SERIES)], "linestyle": DASHES[number // len(SERIES) % len(DASHES)]}


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
