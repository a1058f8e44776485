"""Small multiples: routing curves, ablations and data efficiency."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from relope.evaluate.numbers.draws import Drawn
from relope.evaluate.numbers.persample import Evaluated
from relope.evaluate.pages.panels import LABEL_ROOM, end_labels, panels
from relope.evaluate.pages.svg import GREY, MUTED, SERIES
from relope.evaluate.studies.inputs import StudyInputs

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def colours(names: Sequence[str], controls: Sequence[str] = ()) -> dict[str, str]:
    """Return a colour for each name; controls and what has no colour left are grey."""
    found, left = {}, list(SERIES)
    for name in names:
        found[name] = left.pop(0) if left and name not in controls else GREY
    return found


def routing_figures(inputs: StudyInputs, reports: Sequence[Evaluated]) -> dict[str, str]:
    """Draw a figure a small model, one panel a report; a method has the same colour in all."""
    shown = _ranked(inputs, reports)
    models = list(dict.fromkeys(one.model for one in reports))
    return {
        model: _routing_panels(f"routing{place}", [one for one in reports if one.model == model], shown)
        for place, model in enumerate(models)
    }


def _routing_panels(name: str, reports: Sequence[Evaluated], shown: Sequence[str]) -> str:
    """Draw accuracy of the system against the share escalated."""
    tint = colours(shown)

    def paint(axes: "Axes", place: int, pixels: int) -> None:
        report = reports[place].report
        ratios = np.arange(101)
        axes.plot(ratios, _percent(report["oracle_curve"]), color=MUTED, linewidth=1.2, dashes=(1.5, 2.5))
        axes.plot(ratios, _percent(report["random_curve"]), color=MUTED, linewidth=1.2, dashes=(6, 4))
        for method in reversed(shown):
            if method in report["curves"]:
                strong = tint[method] != GREY
                axes.plot(
                    ratios, _percent(report["curves"][method]), color=tint[method], linewidth=1.8 if strong else 1
                )
        axes.set_title(f"{report['small_name']}, {reports[place].dataset}, n={report['n']:,}", pad=10, fontsize=13)
        axes.set_xlim(0, 100)
        axes.set_xticks((0, 20, 50, 100))
        axes.xaxis.set_major_formatter("{x:.0f} %")
        axes.yaxis.set_major_formatter("{x:g} %")
        axes.set_xlabel("share sent to the large model")
        labels = [name for name in shown if tint[name] != GREY and name in report["curves"]]
        # The curves meet at both ends; at the middle they are furthest apart.
        ends = [(name, float(_percent(report["curves"][name])[50]), tint[name], name == labels[0]) for name in labels]
        end_labels(axes, ends, pixels, leaders=False)

    text = f"Routing curves of {', '.join(shown)}: accuracy of the whole system by share escalated."
    return panels(name, text, len(reports), 2, LABEL_ROOM, paint)


def unnamed(inputs: StudyInputs, reports: Sequence[Evaluated]) -> list[str]:
    """Return the methods that `routing_figures` has no colour left for."""
    return [name for name, colour in colours(_ranked(inputs, reports)).items() if colour == GREY]


def _percent(curve: Sequence[float | None]) -> Any:
    return 100 * np.array([np.nan if value is None else value for value in curve], dtype=float)


def _ranked(inputs: StudyInputs, reports: Sequence[Evaluated]) -> list[str]:
    """Return the methods, the one with the highest mean AUC first."""
    aucs: dict[str, list[float]] = {}
    for one in reports:
        for row in one.report["methods"]:
            if row["auc"] is not None and not row["is_control"]:
                aucs.setdefault(row["method"], []).append(row["auc"])
    chosen = [name for name in inputs.methods(list(reports)) if name in aucs]
    return sorted(chosen, key=lambda name: -float(np.mean(aucs[name])))


TITLES = {"lora_rank": "LoRA rank", "layer": "layer that is read", "beta": "β, weight of the KL term"}


def ablation_panels(found: Sequence[tuple[str, str, str, Sequence[Mapping[str, Any]]]]) -> str:
    """Draw one panel a setting: inner AUC against its value.

    Args:
        found: method, setting, how many samples a run held out (or ""), and a record for each value.
    """
    keys = ("auc", "ci95_low", "ci95_high")
    every = [point[key] for *_, points in found for point in points for key in keys if point[key] is not None]
    room = 0.06 * (max(every) - min(every)) or 0.01

    def paint(axes: "Axes", place: int, pixels: int) -> None:
        method, setting, held, points = found[place]
        x = np.arange(len(points))
        y = np.array([point["auc"] for point in points], dtype=float)
        low, high = (np.array([np.nan if point[key] is None else point[key] for point in points]) for key in keys[1:])
        axes.vlines(x, low, high, color=SERIES[0], linewidth=1.5)
        axes.plot(x, y, color=SERIES[0], linewidth=2, marker="o", markersize=6)
        best = int(np.nanargmax(y))
        axes.plot([best], [y[best]], marker="o", markersize=11, markerfacecolor="none", color=SERIES[0])
        axes.set_xticks(x, [f"{point['value']:g}" for point in points])
        axes.set_xlim(-0.4, len(points) - 0.6)
        axes.set_ylim(min(every) - room, max(every) + room)
        axes.set_xlabel(TITLES.get(setting, setting))
        axes.yaxis.set_major_formatter("{x:.3f}")
        axes.set_title(f"{method}: inner AUC{f', n={held}' if held else ''}", pad=10, fontsize=13)

    settings = ", ".join(TITLES.get(setting, setting) for _, setting, _, _ in found)
    return panels("ablation", f"Inner validation AUC against {settings}.", len(found), 3, 16, paint)


def efficiency_panels(found: Sequence[tuple[Evaluated, Mapping[str, Sequence[tuple[int, Drawn]]]]]) -> str:
    """Draw one panel a report: test AUC against the number of labelled samples."""

    def paint(axes: "Axes", place: int, pixels: int) -> None:
        one, lines = found[place]
        tint, ends, ticks = colours(list(lines)), [], set()
        for method, unsorted in lines.items():
            points = sorted(unsorted, key=lambda point: point[0])
            x, y = [n for n, _ in points], [value.value for _, value in points]
            bounds = [value.ci95 or (np.nan, np.nan) for _, value in points]
            low, high = [bound[0] for bound in bounds], [bound[1] for bound in bounds]
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
        axes.set_title(f"{one.model}, {one.dataset}: test AUC, n={len(one.correct):,}", pad=10, fontsize=13)
        end_labels(axes, ends, pixels)

    return panels("efficiency", "Test AUC against labelled training samples.", len(found), 2, LABEL_ROOM, paint)
