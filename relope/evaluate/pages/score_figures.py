"""What the scores look like: split by right and wrong answers, and against what came true."""

from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup

from relope.evaluate.numbers.analysis import Analysis
from relope.evaluate.numbers.intervals import grouped_share_interval
from relope.evaluate.numbers.metrics import Floats, mass_bins, reliability
from relope.evaluate.numbers.routing import escalation_order, n_escalated
from relope.evaluate.pages.panels import share_axis
from relope.evaluate.pages.svg import INK, MUTED, SERIES, WIDTH, add_panel, draw
from relope.evaluate.pages.wording import share

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

N_BARS = 25
RIGHT, WRONG = SERIES[0], SERIES[1]


def threshold(analysis: Analysis, index: int) -> float:
    """Return the lowest score that is still kept when the budget is escalated."""
    scores = analysis.inputs.scores[index]
    order = escalation_order(scores, analysis.inputs.seed)
    return float(scores[order[min(n_escalated(len(order), analysis.inputs.budget_percent), len(order) - 1)]])


def histograms(analysis: Analysis) -> Markup:
    """Draw the scores of the best method, and of the baseline beside it."""
    shown = [analysis.best]
    if analysis.baseline is not None and analysis.baseline != analysis.best:
        shown.append(analysis.baseline)

    def paint(figure: "Figure") -> None:
        width = WIDTH // len(shown)
        counts = [_counts(analysis, index) for index in shown]
        reach = 1.32 * max(float(both.max()) for both in counts)
        for panel, (index, both) in enumerate(zip(shown, counts, strict=True)):
            axes = add_panel(figure, 56 + panel * width, 46, WIDTH - (panel + 1) * width + 20, 34)
            _histogram(axes, both, threshold(analysis, index), share(analysis.inputs.budget))
            axes.set_ylim(-reach, reach)
            axes.set_title(analysis.inputs.methods[index].name, pad=14, weight="bold")
            if panel == 0:
                axes.set_ylabel("questions")

    names = " and ".join(analysis.inputs.methods[index].name for index in shown)
    return draw("histograms", f"Scores of {names}, right answers upwards, wrong ones downwards.", 360, paint)


def _counts(analysis: Analysis, index: int) -> Floats:
    scores, correct = analysis.inputs.scores[index], analysis.inputs.correct
    both = [np.histogram(scores[side], bins=N_BARS, range=(0, 1))[0] for side in (correct, ~correct)]
    return np.array(both, dtype=np.float64)


def _histogram(axes: "Axes", both: Floats, cut: float, budget: str) -> None:
    left = np.arange(N_BARS) / N_BARS
    axes.bar(left, both[0], width=0.88 / N_BARS, align="edge", color=RIGHT)
    axes.bar(left, -both[1], width=0.88 / N_BARS, align="edge", color=WRONG)
    axes.axhline(0, color=INK, linewidth=1)
    axes.axvline(cut, color=MUTED, linewidth=1.5, dashes=(3, 3))
    axes.set_xlim(0, 1)
    axes.yaxis.set_major_formatter(lambda value, _: f"{abs(value):,.0f}")
    axes.set_xlabel("score: predicted P(correct)")
    early = cut < 0.5
    for text, y in (("answered rightly", 0.93), ("answered wrongly", 0.03)):
        axes.text(
            0.99 if early else 0.01,
            y,
            text,
            transform=axes.transAxes,
            weight="bold",
            horizontalalignment="right" if early else "left",
            verticalalignment="top" if y > 0.5 else "bottom",
        )
    axes.text(
        cut + (0.012 if early else -0.012),
        0.995,
        f"← {budget} escalated",
        transform=axes.get_xaxis_transform(),
        color=MUTED,
        verticalalignment="top",
        horizontalalignment="left" if early else "right",
    )


def reliability_diagrams(analysis: Analysis) -> Markup:
    """Draw predicted against observed accuracy of the best method, before and after calibration."""
    name = analysis.name_of_best
    panels = [
        (name, analysis.inputs.scores[analysis.best]),
        (f"{name}, calibrated", analysis.calibrated[analysis.best]),
    ]

    def paint(figure: "Figure") -> None:
        width = WIDTH // len(panels)
        for panel, (title, scores) in enumerate(panels):
            axes = add_panel(figure, 62 + panel * width, 46, WIDTH - (panel + 1) * width + 20, 34)
            _reliability(axes, analysis, scores)
            axes.set_title(title, pad=14, weight="bold")
            if panel == 0:
                axes.set_ylabel("share answered rightly")

    return draw("reliability", f"Predicted against observed accuracy of {name}.", 380, paint)


def _reliability(axes: "Axes", analysis: Analysis, scores: Floats) -> None:
    correct, groups, number = analysis.inputs.correct, analysis.inputs.groups, mass_bins(scores)
    filled = reliability(correct, scores)
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1.5, dashes=(6, 4))
    for filled_bin, inside in zip(filled, (number == each for each in np.unique(number)), strict=True):
        low, high = grouped_share_interval(correct[inside], groups[inside])
        axes.plot([filled_bin.score, filled_bin.score], [low, high], color=SERIES[0], linewidth=1.5)
    axes.plot([each.score for each in filled], [each.accuracy for each in filled], color=SERIES[0], marker="o")
    axes.set(xlim=(-0.02, 1.02), xlabel="score: predicted P(correct)")
    axes.set_xticks(np.arange(6) / 5)
    share_axis(axes, 0, 1, 0.03)
    axes.text(0.98, 0.05, "dashed: as predicted", color=MUTED, horizontalalignment="right")
