"""Small multiples: routing curves, ablations and data efficiency."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup

from relope.evaluate.numbers.estimates import Estimate
from relope.evaluate.numbers.metrics import Floats
from relope.evaluate.numbers.persample import StoredReport
from relope.evaluate.pages.panels import LABEL_ROOM, end_labels, panels
from relope.evaluate.pages.svg import GREY, MUTED, SERIES
from relope.evaluate.studies.inputs import StudyInputs

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Line = dict[int, Estimate]
"""Labelled samples → AUC."""


def colours(names: Sequence[str]) -> dict[str, str]:
    """Return a colour for each name; those that have none left are grey."""
    return {name: SERIES[number] if number < len(SERIES) else GREY for number, name in enumerate(names)}


def routing_figures(inputs: StudyInputs, reports: Sequence[StoredReport]) -> dict[str, Markup]:
    """Draw a figure a small model, one panel a report; a method has the same colour in all."""
    shown = _ranked(inputs, reports)
    models = list(dict.fromkeys(report.model for report in reports))
    return {
        model: _routing_panels(f"routing{number}", [report for report in reports if report.model == model], shown)
        for number, model in enumerate(models)
    }


def _routing_panels(name: str, reports: Sequence[StoredReport], shown: Sequence[str]) -> Markup:
    """Draw accuracy of the system against the share escalated."""
    tint = colours(shown)

    def paint(axes: "Axes", index: int, pixels: int) -> None:
        report = reports[index].report
        ratios = np.arange(101)
        curves = {method: _percent(report.curves[method]) for method in shown if method in report.curves}
        axes.plot(ratios, _percent(report.oracle_curve), color=MUTED, linewidth=1.2, dashes=(1.5, 2.5))
        axes.plot(ratios, _percent(report.random_curve), color=MUTED, linewidth=1.2, dashes=(6, 4))
        for method, curve in reversed(curves.items()):
            axes.plot(ratios, curve, color=tint[method], linewidth=1.8 if tint[method] != GREY else 1)
        axes.set_title(f"{report.small_name}, {reports[index].dataset}, n={report.n:,}", pad=10, fontsize=13)
        axes.set_xlim(0, 100)
        axes.set_xticks((0, 20, 50, 100))
        axes.xaxis.set_major_formatter("{x:.0f} %")
        axes.yaxis.set_major_formatter("{x:g} %")
        axes.set_xlabel("share sent to the large model")
        labels = [method for method in curves if tint[method] != GREY]
        # The curves meet at both ends; at the middle they are furthest apart.
        ends = [(method, float(curves[method][50]), tint[method], method == labels[0]) for method in labels]
        end_labels(axes, ends, pixels, leaders=False)

    text = f"Routing curves of {', '.join(shown)}: accuracy of the whole system by share escalated."
    return panels(name, text, len(reports), 2, LABEL_ROOM, paint)


def unnamed(inputs: StudyInputs, reports: Sequence[StoredReport]) -> list[str]:
    """Return the methods that `routing_figures` has no colour left for."""
    return [name for name, colour in colours(_ranked(inputs, reports)).items() if colour == GREY]


def _percent(curve: Sequence[float | None]) -> Floats:
    return 100 * np.array([np.nan if value is None else value for value in curve], dtype=np.float64)


def _ranked(inputs: StudyInputs, reports: Sequence[StoredReport]) -> list[str]:
    """Return the methods, the one with the highest mean AUC first."""
    aucs: dict[str, list[float]] = {}
    for report in reports:
        for row in report.report.methods:
            if row.auc is not None and not row.is_control:
                aucs.setdefault(row.method, []).append(row.auc)
    chosen = [name for name in inputs.methods(reports) if name in aucs]
    return sorted(chosen, key=lambda name: -float(np.mean(aucs[name])))


def efficiency_panels(shown: Sequence[tuple[StoredReport, Mapping[str, Line]]]) -> Markup:
    """Draw one panel a report: test AUC against the number of labelled samples, a line a method."""

    def paint(axes: "Axes", index: int, pixels: int) -> None:
        report, lines = shown[index]
        tint, ends, ticks = colours(list(lines)), [], set()
        for method, line in lines.items():
            x, aucs = zip(*sorted(line.items()), strict=True)
            y = [auc.value for auc in aucs]
            low, high = np.array([auc.ci95 or (np.nan, np.nan) for auc in aucs]).T
            axes.fill_between(x, low, high, color=tint[method], alpha=0.12, linewidth=0)
            axes.plot(x, y, color=tint[method], linewidth=2, marker="o", markersize=5)
            ends.append((method, y[-1], tint[method], method == "relope"))
            ticks |= set(x)
        axes.set_xscale("log")
        axes.set_xticks(sorted(ticks), [f"{n:,}" for n in sorted(ticks)])
        axes.minorticks_off()
        axes.axhline(0.5, color=MUTED, linewidth=1, dashes=(6, 4))
        axes.set_xlabel("labelled training samples (log scale)")
        axes.yaxis.set_major_formatter("{x:.2f}")
        axes.set_title(f"{report.model}, {report.dataset}: test AUC, n={report.report.n:,}", pad=10, fontsize=13)
        end_labels(axes, ends, pixels)

    return panels("efficiency", "Test AUC against labelled training samples.", len(shown), 2, LABEL_ROOM, paint)
