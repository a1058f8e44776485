"""Routing curves: of the best method, and of all methods."""

from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup

from relope.evaluate.numbers.analysis import Analysis
from relope.evaluate.numbers.inputs import BASELINE
from relope.evaluate.numbers.metrics import Floats
from relope.evaluate.numbers.routing import MARKS, RoutingCurve, mark_key
from relope.evaluate.pages.svg import GREY, INK, MUTED, SERIES, add_panel, draw, spread
from relope.evaluate.pages.wording import percent, points

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHOWN = 20
"""Percent escalated that the first figure points at."""

LABELLED_TO = 50
"""Percent at which the curves of all methods are labelled: beyond it they run together again."""

LABEL_GAP = 17


def best_curve(analysis: Analysis) -> Markup:
    """Draw the best method's curve between random escalation and the oracle."""
    curve = analysis.curves[analysis.best]
    name = analysis.name_of_best
    description = (
        f"Accuracy against the share of questions escalated. {name} reaches {percent(_at(curve.accuracy, SHOWN))} "
        f"at {SHOWN} %, random escalation {percent(_at(curve.random, SHOWN))}."
    )

    def paint(figure: "Figure") -> None:
        axes = add_panel(figure, 56, 46, 26, 30)
        x, shown = 100 * curve.ratios, _steady(analysis, curve)
        axes.plot(x[shown], 100 * curve.oracle[shown], color=MUTED, linewidth=1.5, dashes=(1.5, 2.5))
        axes.plot(x, 100 * curve.random, color=MUTED, linewidth=1.5, dashes=(6, 4))
        axes.fill_between(
            x[shown], 100 * curve.random[shown], 100 * curve.accuracy[shown], color=SERIES[0], alpha=0.12, linewidth=0
        )
        axes.plot(x[shown], 100 * curve.accuracy[shown], color=SERIES[0], linewidth=3)
        _bars(axes, analysis)
        _frame(axes, curve)
        _call_out(axes, curve, name)

    return draw("best", description, 380, paint)


def chosen(curve: RoutingCurve) -> str:
    """Return what a curve's order decides: who is escalated, or without a large model who is selected."""
    return "escalation" if curve.kind == "system" else "selection"


def _at(line: Floats, at: int) -> float | None:
    return float(line[at]) if np.isfinite(line[at]) else None


def _steady(analysis: Analysis, curve: RoutingCurve) -> slice:
    """Return the ratios to draw: without a large model the last few samples kept are only noise."""
    if curve.kind == "system":
        return slice(0, 101)
    known = int(np.isfinite(curve.accuracy).sum())
    return slice(0, min(96, known))


def _bars(axes: "Axes", analysis: Analysis) -> None:
    for mark in MARKS:
        bounds = analysis.resampled.interval(analysis.best, f"accuracy_at_{mark_key(mark)}")
        value = 100 * analysis.curves[analysis.best].accuracy[mark]
        if bounds is None or not np.isfinite(value):
            continue
        axes.plot([mark, mark], [100 * bounds[0], 100 * bounds[1]], color=SERIES[0], linewidth=1.5)
        axes.plot([mark], [value], marker="o", color=SERIES[0], markersize=8 if mark == SHOWN else 5)


def _frame(axes: "Axes", curve: RoutingCurve) -> None:
    system = curve.kind == "system"
    axes.set_xlim(0, 100)
    lines = np.concatenate([curve.accuracy, curve.random, curve.oracle])
    low, high = 100 * float(np.nanmin(lines)), 100 * float(np.nanmax(lines))
    room = max(high - low, 2.0)
    floor = 100 * float(np.nanmin([curve.accuracy[SHOWN], curve.random[SHOWN], curve.random[40]]))
    axes.set_ylim(min(low - 0.08 * room, floor - 0.33 * room), high + 0.11 * room)
    axes.set_xticks(range(0, 101, 10))
    axes.xaxis.set_major_formatter("{x:.0f} %")
    axes.yaxis.set_major_formatter("{x:g} %")
    axes.set_xlabel(
        "share of questions sent to the large model" if system else "share of questions set aside for a larger model"
    )
    title = "accuracy of the whole system" if system else "accuracy of the small model on the questions it keeps"
    axes.set_title(title, pad=12, color=MUTED, fontsize=13)


def _call_out(axes: "Axes", curve: RoutingCurve, name: str) -> None:
    best, random = _at(curve.accuracy, SHOWN), _at(curve.random, SHOWN)
    low, high = axes.get_ylim()
    step = (high - low) / 304
    peak = 100 * float(curve.oracle[60 if curve.kind == "system" else 50])
    top = peak if np.isfinite(peak) else high - 20 * step
    axes.text(58, min(top + 7 * step, high - 14 * step), "oracle: knows every answer beforehand", color=MUTED)
    at = 76 if curve.kind == "system" else 70
    axes.text(
        at,
        100 * curve.random[at] - 24 * step,
        f"random {chosen(curve)}",
        color=MUTED,
    )
    if best is None or random is None:
        return
    floor = 100 * min(best, random, float(curve.random[40]))
    y = max(floor - 62 * step, low + 26 * step)
    axes.annotate(
        "",
        xy=(SHOWN, 100 * best - 6 * step),
        xytext=(27, y + 20 * step),
        arrowprops={
            "arrowstyle": "-",
            "color": INK,
            "linewidth": 1,
            "shrinkA": 0,
            "shrinkB": 2,
            "connectionstyle": "angle3,angleA=0,angleB=90",
        },
    )
    axes.text(28, y + 15 * step, f"{name}, {SHOWN} %: {percent(best)}", weight="bold")
    axes.text(28, y - 4 * step, f"random {percent(random)}, a lead of {points(best - random)}", color=MUTED)


def all_curves(analysis: Analysis) -> Markup:
    """Draw every method: accuracy over the whole range, and the lead over random escalation."""
    height = max(400, 110 + LABEL_GAP * len(analysis.ranked))

    def paint(figure: "Figure") -> None:
        system = analysis.curves[0].kind == "system"
        left = add_panel(figure, 52, 46, 548, 34)
        right = add_panel(figure, 478, 46, 170, 34)
        for index in reversed(analysis.ranked):
            curve = analysis.curves[index]
            shown, style = _steady(analysis, curve), _style(analysis, index)
            left.plot(100 * curve.ratios[shown], 100 * curve.accuracy[shown], **style)
            lead = 100 * (curve.accuracy - curve.random)[: LABELLED_TO + 1]
            right.plot(100 * curve.ratios[: LABELLED_TO + 1], lead, **style)
        left.plot(100 * analysis.curves[0].ratios, 100 * analysis.curves[0].random, color=MUTED, dashes=(6, 4))
        right.axhline(0, color=MUTED, dashes=(6, 4))
        left.set_title("accuracy of the whole system" if system else "accuracy on the questions kept", pad=14)
        right.set_title(f"lead over random {chosen(analysis.curves[0])}, in accuracy points", pad=14)
        for axes, end in ((left, 100), (right, LABELLED_TO)):
            axes.set_xlim(0, end)
            axes.set_xticks(range(0, end + 1, end // 5))
            axes.xaxis.set_major_formatter("{x:.0f} %")
            axes.set_xlabel("share of questions escalated")
        left.yaxis.set_major_formatter("{x:g} %")
        right.yaxis.set_major_formatter(lambda value, _: f"{value:+g}" if value else "0")
        _end_labels(right, analysis, height)

    return draw("all", "Routing curves of all methods, and their lead over random escalation.", height, paint)


def emphasised(analysis: Analysis) -> list[int]:
    """Return the indices drawn in colour: the best first, the baseline among them."""
    kept = [index for index in analysis.ranked if not analysis.inputs.methods[index].is_control]
    chosen = kept[: len(SERIES)]
    if analysis.baseline is not None and analysis.baseline in kept[len(SERIES) :]:
        chosen[-1] = analysis.baseline
    return chosen


def _style(analysis: Analysis, index: int) -> "dict[str, Any]":
    chosen = emphasised(analysis)
    if index in chosen:
        return {"color": SERIES[chosen.index(index)], "linewidth": 3.0 if index == analysis.best else 2.0}
    control = analysis.inputs.methods[index].is_control
    return {"color": GREY, "linewidth": 1.5, "linestyle": "dotted" if control else "solid"}


def _end_labels(axes: "Axes", analysis: Analysis, height: int) -> None:
    """Write each method's name beside its end, moved apart where they would touch."""
    low, high = axes.get_ylim()
    axes.set_ylim(low, high)
    pixels = height * axes.get_position().height
    leads = [100 * float((curve.accuracy - curve.random)[LABELLED_TO]) for curve in analysis.curves]
    indices = [index for index in analysis.ranked if np.isfinite(leads[index])]
    wanted = [(leads[index] - low) / (high - low) * pixels for index in indices]
    for index, want, y in zip(indices, wanted, spread(wanted, LABEL_GAP, 0, pixels), strict=True):
        style = _style(analysis, index)
        middle = y / pixels
        axes.plot(
            [1.0, 1.035, 1.07],
            [want / pixels, middle, middle],
            transform=axes.transAxes,
            clip_on=False,
            **{**style, "linewidth": 1.5},
        )
        method = analysis.inputs.methods[index]
        strong = index == analysis.best or method.name == BASELINE
        axes.text(
            1.085,
            middle,
            method.name,
            transform=axes.transAxes,
            verticalalignment="center_baseline",
            color=INK if index in emphasised(analysis) else MUTED,
            weight="bold" if strong else "normal",
        )
