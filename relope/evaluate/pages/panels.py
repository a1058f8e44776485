"""Small multiples: panels in rows, with names at the ends of their lines."""

import math
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from relope.evaluate.pages.lines import Style, key
from relope.evaluate.pages.svg import INK, MUTED, WIDTH, add_panel, draw, spread

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANEL_HEIGHT = 300
ABOVE, BELOW = 48, 50
"""Pixels above a panel, for two lines of a title, and below it."""

FRAME = ABOVE + BELOW
LABEL_ROOM = 208
LONGEST = 26
"""Letters of a label that there is room for."""

GAP = 16
LETTER = 7.4
"""Pixels of a letter of a title, on average."""

Paint = Callable[["Axes", int, int], None]
"""Draws the panel of an index; the last argument is the pixels of its height."""


def panels(
    name: str, description: str, n: int, columns: int, label_room: int, paint: Paint, n_labels: int = 0
) -> Markup:
    """Draw n panels in rows of so many columns, with room on the right of each for so many labels."""
    across = min(n, columns)
    rows = math.ceil(n / across)
    each = max(PANEL_HEIGHT, FRAME + GAP * (n_labels + 1))
    height = rows * each

    def fill(figure: "Figure") -> None:
        for index in range(n):
            row, column = divmod(index, across)
            width = WIDTH / across
            left, right = column * width + 56, WIDTH - (column + 1) * width + label_room
            axes = add_panel(figure, left, height - (row + 1) * each + BELOW, right, row * each + ABOVE)
            paint(axes, index, each - FRAME)

    return draw(name, description, height, fill)


@dataclass(frozen=True)
class Label:
    """A name at the end of a line: where the line ends, its style, and whether it is set strong."""

    name: str
    value: float
    style: Style
    strong: bool = False


def panel_title(axes: "Axes", text: str) -> None:
    """Write a panel's title above it, on a second line where the panel is too narrow for one."""
    width = axes.get_position().width * WIDTH
    axes.set_title("\n".join(textwrap.wrap(text, max(12, int(width / LETTER)))[:2]), pad=8, fontsize=13)


def share_axis(axes: "Axes", low: float, high: float, room: float, top: float = 1.0) -> None:
    """Set the limits around values, with room for what is drawn at them; no tick lies where no share can.

    Args:
        axes: whose vertical axis it is.
        low: least value that is drawn.
        high: largest.
        room: left free on both sides, at least a fiftieth of what a share can be.
        top: what a share cannot exceed: 1, or 100 in percent.
    """
    from matplotlib.ticker import MaxNLocator

    room = max(room, top / 50)
    limits = low - room, high + room
    ticks = MaxNLocator(nbins=6, steps=[1, 2, 5, 10]).tick_values(*limits)
    least, most = max(limits[0], 0.0), min(limits[1], top)
    # Steps of 0.2 add up to a little more than 1.
    axes.set_yticks([min(tick, most) for tick in ticks if least - top / 1e9 <= tick <= most + top / 1e9])
    axes.set_ylim(limits)


def fitting(name: str, value: str = "", longest: int = LONGEST) -> str:
    """Return a name and its value as a label of so many letters at most; what is cut is the middle of the name."""
    room = longest - len(value) - 1 if value else longest
    if len(name) > room:
        name = f"{name[: room - room // 2 - 1]}…{name[-(room // 2) :]}"
    return f"{name} {value}" if value else name


def end_labels(axes: "Axes", labels: Sequence[Label], pixels: int, heading: str = "") -> None:
    """Write names at the right of their lines, moved apart where they would touch.

    Args:
        axes: with its final limits.
        labels: one a line.
        pixels: height of the panel.
        heading: stands above the names, which then are a list in the order of their values and show how each
            line looks; without, each name is joined to its line's end.
    """
    low, high = axes.get_ylim()
    axes.set_ylim(low, high)
    wanted = [(label.value - low) / (high - low) * pixels for label in labels]
    width = axes.get_position().width * WIDTH

    def write(text: str, y: float, **style: Any) -> None:
        axes.text(
            1 + 26 / width, y / pixels, text, transform=axes.transAxes, verticalalignment="center", fontsize=12, **style
        )

    if heading:
        write(heading, pixels - GAP / 2, color=MUTED)
    top = pixels - (GAP * 1.5 if heading else 0)
    for label, want, y in zip(labels, wanted, spread(wanted, GAP, 0, top), strict=True):
        start = y if heading else want
        axes.plot(
            [1 + 2 / width, 1 + 10 / width, 1 + 22 / width],
            [start / pixels, y / pixels, y / pixels],
            **key(label.style),
            linewidth=1.6,
            transform=axes.transAxes,
            clip_on=False,
        )
        write(label.name, y, color=INK, weight="bold" if label.strong else "normal")
