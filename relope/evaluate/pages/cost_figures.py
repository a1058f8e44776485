"""Accuracy of the system against what a query costs: dollars and seconds, where both models' are known."""

from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup

from relope.evaluate.numbers.analysis import Analysis
from relope.evaluate.numbers.costs import Axis, Costs
from relope.evaluate.numbers.routing import PERCENTS, n_escalated
from relope.evaluate.pages.lines import sparse
from relope.evaluate.pages.panels import LABEL_ROOM, Label, end_labels, fitting, panel_title, panels, share_axis
from relope.evaluate.pages.routing_figures import method_styles
from relope.evaluate.pages.svg import MUTED

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAMED_AT = 50
"""Percent escalated at which each line has a dot, and its name the accuracy."""

LABELS: dict[Axis, str] = {"dollars": "$ per 1,000 queries", "latency": "mean seconds a query"}


def cost_curves(analysis: Analysis) -> Markup | None:
    """Draw a panel for each axis that is known; None when none is, or the large model was not run."""
    costs = analysis.inputs.costs
    if costs is None or analysis.inputs.large_correct is None:
        return None
    known: list[Axis] = [axis for axis in LABELS if analysis.cost_along(analysis.best, axis) is not None]
    if not known:
        return None

    def paint(axes: "Axes", index: int, pixels: int) -> None:
        _panel(axes, analysis, costs, known[index], pixels)

    text = f"Accuracy of the system against {' and '.join(LABELS[axis] for axis in known)}."
    return panels("costs", text, len(known), 2, LABEL_ROOM, paint, n_labels=len(analysis.ranked) + 1)


def _panel(axes: "Axes", analysis: Analysis, costs: Costs, axis: Axis, pixels: int) -> None:
    n, factor = len(analysis.inputs.correct), 1000 if axis == "dollars" else 1
    escalated = np.array([n_escalated(n, percent) for percent in PERCENTS])
    ends = []
    styles = method_styles(analysis)
    for rank, index in reversed(list(enumerate(analysis.ranked))):
        name, best = analysis.inputs.methods[index].name, index == analysis.best
        line = analysis.cost_along(index, axis)
        if line is None:
            continue
        x, y = factor * line[escalated], 100 * analysis.curves[index].accuracy
        axes.plot(x, y, **styles[index], **sparse(rank), linewidth=3 if best else 1.6)
        axes.plot(x[[NAMED_AT]], y[[NAMED_AT]], color=styles[index]["color"], marker="o", markersize=4)
        ends.append(Label(fitting(name, f"{y[NAMED_AT]:.1f} %"), float(y[NAMED_AT]), styles[index], best))
        if best:
            both = (costs.small[axis], costs.large[axis])
            random = [factor * float(np.mean(cost)) for cost in both if cost is not None]
            axes.plot(random, y[[0, -1]], color=MUTED, linewidth=1.2, dashes=(6, 4))
    axes.set_xlabel(LABELS[axis])
    axes.yaxis.set_major_formatter("{x:g} %")
    lines = [analysis.curves[0].random, *(curve.accuracy for curve in analysis.curves)]
    low, high = 100 * float(np.nanmin(lines)), 100 * float(np.nanmax(lines))
    share_axis(axes, low, high, 0.06 * max(high - low, 2.0), 100)
    panel_title(axes, "accuracy of the whole system")
    end_labels(axes, ends, pixels, heading=f"{NAMED_AT} % escalated, dots")
