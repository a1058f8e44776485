"""Routing curves of all methods, and their lead over random escalation."""

from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup

from relope.evaluate.numbers.analysis import Analysis
from relope.evaluate.numbers.inputs import BASELINE
from relope.evaluate.numbers.routing import RoutingCurve
from relope.evaluate.pages.lines import Style, key, line_styles, sparse
from relope.evaluate.pages.panels import fitting, share_axis
from relope.evaluate.pages.svg import INK, MUTED, add_panel, draw, spread

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LABELLED_TO = 50
"""Percent at which the curves of all methods are labelled: beyond it they run together again."""

LABEL_GAP = 17


def steady(curve: RoutingCurve) -> slice:
    """Return the ratios to draw: without a large model the last few samples kept are only noise."""
    if curve.kind == "system":
        return slice(0, 101)
    known = int(np.isfinite(curve.accuracy).sum())
    return slice(0, min(96, known))


def all_curves(analysis: Analysis) -> Markup:
    """Draw every method: accuracy over the whole range, and the lead over random escalation."""
    height = max(400, 110 + LABEL_GAP * len(analysis.ranked))

    def paint(figure: "Figure") -> None:
        system = analysis.curves[0].kind == "system"
        left = add_panel(figure, 56, 46, 564, 34)
        right = add_panel(figure, 462, 46, 190, 34)
        styles = method_styles(analysis)
        for rank, index in reversed(list(enumerate(analysis.ranked))):
            curve = analysis.curves[index]
            shown = steady(curve)
            style = {**styles[index], **sparse(rank), "linewidth": 3 if index == analysis.best else 1.6}
            left.plot(100 * curve.ratios[shown], 100 * curve.accuracy[shown], **style)
            lead = 100 * (curve.accuracy - curve.random)[: LABELLED_TO + 1]
            right.plot(100 * curve.ratios[: LABELLED_TO + 1], lead, **style)
        left.plot(100 * analysis.curves[0].ratios, 100 * analysis.curves[0].random, color=MUTED, dashes=(6, 4))
        right.axhline(0, color=MUTED, dashes=(6, 4))
        left.set_title("accuracy of the whole system" if system else "accuracy on the questions kept", pad=14)
        right.set_title("lead over random escalation, in accuracy points", pad=14)
        for axes, end in ((left, 100), (right, LABELLED_TO)):
            axes.set_xlim(0, end)
            axes.set_xticks(range(0, end + 1, end // 5))
            axes.xaxis.set_major_formatter("{x:.0f} %")
            axes.set_xlabel("share of questions escalated")
        lines = np.concatenate([analysis.curves[0].random, *(curve.accuracy for curve in analysis.curves)])
        low, high = 100 * float(np.nanmin(lines)), 100 * float(np.nanmax(lines))
        share_axis(left, low, high, 0.05 * max(high - low, 2.0), 100)
        left.yaxis.set_major_formatter("{x:g} %")
        right.yaxis.set_major_formatter(lambda value, _: f"{value:+g}" if value else "0")
        _end_labels(right, analysis, height)

    return draw("all", "Routing curves of all methods, and their lead over random escalation.", height, paint)


def method_styles(analysis: Analysis) -> dict[int, Style]:
    """Return the style of each method's line, the same in every figure of a page."""
    names = {analysis.inputs.methods[index].name: index for index in analysis.ranked}
    controls = [name for name, index in names.items() if analysis.inputs.methods[index].is_control]
    return {names[name]: style for name, style in line_styles([*names], controls).items()}


def _end_labels(axes: "Axes", analysis: Analysis, height: int) -> None:
    """Write each method's name beside its end, moved apart where they would touch."""
    low, high = axes.get_ylim()
    axes.set_ylim(low, high)
    pixels = height * axes.get_position().height
    leads = [100 * float((curve.accuracy - curve.random)[LABELLED_TO]) for curve in analysis.curves]
    indices = [index for index in analysis.ranked if np.isfinite(leads[index])]
    wanted = [(leads[index] - low) / (high - low) * pixels for index in indices]
    styles = method_styles(analysis)
    for index, want, y in zip(indices, wanted, spread(wanted, LABEL_GAP, 0, pixels), strict=True):
        middle = y / pixels
        axes.plot(
            [1.0, 1.035, 1.07],
            [want / pixels, middle, middle],
            transform=axes.transAxes,
            clip_on=False,
            **key(styles[index]),
            linewidth=1.5,
        )
        method = analysis.inputs.methods[index]
        strong = index == analysis.best or method.name == BASELINE
        axes.text(
            1.085,
            middle,
            fitting(method.name, longest=22),
            transform=axes.transAxes,
            verticalalignment="center_baseline",
            color=MUTED if method.is_control else INK,
            weight="bold" if strong else "normal",
        )
