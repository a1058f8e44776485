"""Small multiples: panels in rows, with names at the ends of their lines."""

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from markupsafe import Markup

from relope.evaluate.pages.svg import INK, WIDTH, add_panel, draw, spread

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANEL_HEIGHT = 300
LABEL_ROOM = 128
GAP = 16

Paint = Callable[["Axes", int, int], None]
"""Draws the panel of an index; the last argument is the pixels of its height."""


def panels(name: str, description: str, n: int, columns: int, label_room: int, paint: Paint) -> Markup:
    """Draw n panels in rows of so many columns, with room for labels on the right of each."""
    across = min(n, columns)
    rows = math.ceil(n / across)
    height = rows * PANEL_HEIGHT

    def fill(figure: "Figure") -> None:
        for index in range(n):
            row, column = divmod(index, across)
            width = WIDTH / across
            left, right = column * width + 56, WIDTH - (column + 1) * width + label_room
            axes = add_panel(figure, left, height - (row + 1) * PANEL_HEIGHT + 50, right, row * PANEL_HEIGHT + 34)
            paint(axes, index, PANEL_HEIGHT - 84)

    return draw(name, description, height, fill)


def end_labels(axes: "Axes", ends: Sequence[tuple[str, float, str, bool]], pixels: int, leaders: bool = True) -> None:
    """Write names at the right of their lines, moved apart where they would touch.

    Args:
        axes: with its final limits.
        ends: name, value at the end, colour, whether it is strong.
        pixels: height of the panel.
        leaders: draw from the line's end; without, the labels only stand in the order of the values.
    """
    low, high = axes.get_ylim()
    axes.set_ylim(low, high)
    wanted = [(value - low) / (high - low) * pixels for _, value, _, _ in ends]
    width = axes.get_position().width * WIDTH
    for (name, _, colour, strong), want, y in zip(ends, wanted, spread(wanted, GAP, 0, pixels), strict=True):
        start = want if leaders else y
        axes.plot(
            [1 + 2 / width, 1 + 10 / width, 1 + 18 / width],
            [start / pixels, y / pixels, y / pixels],
            color=colour,
            linewidth=1.2,
            transform=axes.transAxes,
            clip_on=False,
        )
        axes.text(
            1 + 22 / width,
            y / pixels,
            name,
            transform=axes.transAxes,
            verticalalignment="center_baseline",
            fontsize=12,
            color=INK,
            weight="bold" if strong else "normal",
        )
