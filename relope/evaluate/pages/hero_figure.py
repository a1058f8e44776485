"""The first figure: what the best router and the best free one reach, between random escalation and an oracle.

It is drawn twice, for a desk and for a hand, so that neither has to be scrolled.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup

from relope.evaluate.numbers.analysis import Analysis
from relope.evaluate.numbers.decision import Decision
from relope.evaluate.numbers.intervals import Interval
from relope.evaluate.numbers.metrics import Floats
from relope.evaluate.numbers.routing import RoutingCurve, mark_key
from relope.evaluate.pages.lines import Style
from relope.evaluate.pages.panels import fitting, share_axis
from relope.evaluate.pages.routing_figures import steady
from relope.evaluate.pages.svg import MUTED, SERIES, WIDTH, add_panel, draw
from relope.evaluate.pages.wording import percent, share

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

COLOURS = (SERIES[0], SERIES[1])
"""Of the router, and of the free one."""

DASHED: Style = {"color": MUTED, "linewidth": 1.5, "dashes": (6, 4)}
DOTTED: Style = {"color": MUTED, "linewidth": 1.5, "dashes": (1.5, 2.5)}
LEGEND_ROW = 19
"""Pixels."""


@dataclass(frozen=True)
class Shape:
    """How a figure is drawn: pixels across, names beside each other, letters of a name, percents between two ticks."""

    width: int
    columns: int
    longest: int
    step: int


ROOMY, NARROW = Shape(WIDTH, 2, 44, 10), Shape(352, 1, 26, 20)


def hero(analysis: Analysis, decision: Decision, shape: Shape = ROOMY) -> Markup:
    """Draw the best router and the best free one; where neither is scored, the best method that there is."""
    names = [each.method for each in (decision.router, decision.free) if each is not None] or [analysis.name_of_best]
    listed = [method.name for method in analysis.inputs.methods]
    indices = [listed.index(name) for name in names]
    entries = len(indices) + 2
    above = 54 + LEGEND_ROW * -(-entries // shape.columns)
    at = analysis.inputs.budget_percent

    def paint(figure: "Figure") -> None:
        axes = add_panel(figure, 56, 46, 26, above)
        first = analysis.curves[indices[0]]
        shown = steady(first)
        x = 100 * first.ratios
        lines = [
            *(_method(axes, analysis, index, colour, shape) for index, colour in zip(indices, COLOURS, strict=False)),
            *axes.plot(x, 100 * first.random, label=f"random escalation {percent(_at(first.random, at))}", **DASHED),
            *axes.plot(x[shown], 100 * first.oracle[shown], label=_oracle(first, at), **DOTTED),
        ]
        axes.axvline(at, color=MUTED, linewidth=1, alpha=0.5)
        _frame(axes, analysis, indices, shape)
        axes.legend(
            handles=lines,
            loc="lower left",
            bbox_to_anchor=(-0.01, 1.0),
            ncols=shape.columns,
            frameon=False,
            borderaxespad=0.2,
            labelspacing=0.35,
            handlelength=2.4,
            title=f"at {share(analysis.inputs.budget)}, the grey line",
            alignment="left",
        )

    name = "hero" if shape is ROOMY else "hero-narrow"
    return draw(name, _description(analysis, indices), 330 + above, paint, shape.width)


def _oracle(curve: RoutingCurve, at: int) -> str:
    return f"oracle, knows every answer {percent(_at(curve.oracle, at))}"


def _description(analysis: Analysis, indices: list[int]) -> str:
    at, curves = analysis.inputs.budget_percent, [analysis.curves[index] for index in indices]
    reached = [
        f"{analysis.inputs.methods[index].name} reaches {percent(_at(curve.accuracy, at))}"
        for index, curve in zip(indices, curves, strict=True)
    ]
    random = percent(_at(curves[0].random, at))
    return f"Accuracy against the share of questions escalated. At {at} % {', '.join(reached)}, random {random}."


def _method(axes: "Axes", analysis: Analysis, index: int, colour: str, shape: Shape) -> "Line2D":
    """Draw a method's curve with the intervals of the quoted shares; return its line."""
    curve, at = analysis.curves[index], analysis.inputs.budget_percent
    shown = steady(curve)
    value = _at(curve.accuracy, at)
    label = fitting(analysis.inputs.methods[index].name, percent(value), shape.longest)
    # Where both run together the free one is seen on top, within the router's; its bars stand a little to the side.
    first = colour == COLOURS[0]
    width, aside = (4.2, 0.0) if first else (1.6, 0.7)
    (line,) = axes.plot(
        100 * curve.ratios[shown], 100 * curve.accuracy[shown], color=colour, linewidth=width, label=label
    )
    for mark in analysis.inputs.marks:
        bounds, point = _interval(analysis, index, mark), 100 * curve.accuracy[mark]
        if bounds is None or not np.isfinite(point):
            continue
        axes.plot([mark + aside] * 2, [100 * bounds[0], 100 * bounds[1]], color=colour, linewidth=1.5)
        size = 7 if mark == at else 4
        axes.plot([mark + aside], [point], marker="o" if first else "s", color=colour, markersize=size)
    return line


def _interval(analysis: Analysis, index: int, mark: int) -> Interval | None:
    return analysis.resampled.interval(index, f"accuracy_at_{mark_key(mark)}")


def _at(line: Floats, at: int) -> float | None:
    return float(line[at]) if np.isfinite(line[at]) else None


def _frame(axes: "Axes", analysis: Analysis, indices: list[int], shape: Shape) -> None:
    curves: list[RoutingCurve] = [analysis.curves[index] for index in indices]
    system = curves[0].kind == "system"
    marks = analysis.inputs.marks
    bars = [bound for index in indices for mark in marks for bound in _interval(analysis, index, mark) or ()]
    drawn = [curve.accuracy[steady(curve)] for curve in curves]
    lines = np.concatenate([*drawn, curves[0].random, curves[0].oracle[steady(curves[0])], bars])
    low, high = 100 * float(np.nanmin(lines)), 100 * float(np.nanmax(lines))
    share_axis(axes, low, high, 0.07 * max(high - low, 2.0), 100)
    axes.set_xlim(0, 100)
    axes.set_xticks(range(0, 101, shape.step))
    axes.xaxis.set_major_formatter("{x:.0f} %")
    axes.yaxis.set_major_formatter("{x:g} %")
    axes.set_xlabel("share of questions escalated")
    # What stands upwards is said above the names, where there is room for a sentence.
    what = "accuracy of the whole system" if system else "accuracy of the small model on what it keeps"
    axes.set_title(what, pad=12 + LEGEND_ROW * (1 + -(-(len(indices) + 2) // shape.columns)), color=MUTED, fontsize=13)
