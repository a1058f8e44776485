"""Small multiples: routing curves, ablations and data efficiency."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup

from relope.evaluate.numbers.estimates import Estimate
from relope.evaluate.numbers.metrics import Floats
from relope.evaluate.numbers.persample import StoredReport
from relope.evaluate.pages.lines import line_styles, sparse
from relope.evaluate.pages.panels import LABEL_ROOM, Label, end_labels, fitting, panel_title, panels, share_axis
from relope.evaluate.pages.svg import MUTED
from relope.evaluate.studies.inputs import StudyInputs

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Line = dict[int, Estimate]
"""Labelled samples → AUC."""

NAMED_AT = 50
"""Percent escalated at which the curves are named, with their values there."""


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
    styles = line_styles(shown)

    def paint(axes: "Axes", index: int, pixels: int) -> None:
        report = reports[index].report
        ratios = np.arange(101)
        curves = {method: _percent(report.curves[method]) for method in shown if method in report.curves}
        axes.plot(ratios, _percent(report.oracle_curve), color=MUTED, linewidth=1.2, dashes=(1.5, 2.5))
        axes.plot(ratios, _percent(report.random_curve), color=MUTED, linewidth=1.2, dashes=(6, 4))
        axes.axvline(NAMED_AT, color=MUTED, linewidth=1, alpha=0.5)
        for rank, (method, curve) in reversed(list(enumerate(curves.items()))):
            axes.plot(ratios, curve, **styles[method], **sparse(rank), linewidth=1.6)
        panel_title(axes, f"{report.small_name}, {reports[index].dataset}, n={report.n:,}")
        axes.set_xlim(0, 100)
        axes.set_xticks((0, 20, 50, 100))
        axes.xaxis.set_major_formatter("{x:.0f} %")
        axes.yaxis.set_major_formatter("{x:g} %")
        axes.set_xlabel("share of questions escalated")
        every = np.concatenate([*curves.values(), _percent(report.oracle_curve), _percent(report.random_curve)])
        low, high = float(np.nanmin(every)), float(np.nanmax(every))
        share_axis(axes, low, high, 0.06 * max(high - low, 2.0), 100)
        # The curves meet at both ends; at the middle they are furthest apart.
        at = {method: float(curve[NAMED_AT]) for method, curve in curves.items()}
        best = next(iter(curves), "")
        labels = [
            Label(fitting(method, f"{value:.1f} %"), value, styles[method], method == best)
            for method, value in at.items()
        ]
        end_labels(axes, labels, pixels, heading=f"at {NAMED_AT} %, grey line")

    text = f"Routing curves of {', '.join(shown)}: accuracy of the whole system by share escalated."
    return panels(name, text, len(reports), 2, LABEL_ROOM, paint, n_labels=len(shown) + 1)


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
        styles, ends, bounds, ticks = line_styles(list(lines)), [], [], set()
        for method, line in lines.items():
            x, aucs = zip(*sorted(line.items()), strict=True)
            y = [auc.value for auc in aucs]
            low, high = np.array([auc.ci95 or (np.nan, np.nan) for auc in aucs]).T
            axes.fill_between(x, low, high, color=styles[method]["color"], alpha=0.12, linewidth=0)
            axes.plot(x, y, **{**styles[method], "marker": styles[method]["marker"] or "."}, linewidth=2)
            ends.append(Label(fitting(method), y[-1], styles[method], method == "relope"))
            bounds += [*y, *low, *high]
            ticks |= set(x)
        axes.set_xscale("log")
        axes.set_xticks(sorted(ticks), [f"{n:,}" for n in sorted(ticks)])
        axes.minorticks_off()
        axes.axhline(0.5, color=MUTED, linewidth=1, dashes=(6, 4))
        axes.set_xlabel("labelled training samples (log scale)")
        axes.yaxis.set_major_formatter("{x:.2f}")
        least, most = float(np.nanmin([0.5, *bounds])), float(np.nanmax([0.5, *bounds]))
        share_axis(axes, least, most, 0.05 * max(most - least, 0.02))
        panel_title(axes, f"{report.model}, {report.dataset}: test AUC, n={report.report.n:,}")
        end_labels(axes, ends, pixels)

    most = max(len(lines) for _, lines in shown)
    text = "Test AUC against labelled training samples."
    return panels("efficiency", text, len(shown), 2, LABEL_ROOM, paint, n_labels=most)
