"""Several large models on a page: their curves on one queue, and which of them pays at which budget."""

from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup

from relope.evaluate.numbers.records import Report
from relope.evaluate.numbers.several import BesideSmall, Pays, Several
from relope.evaluate.pages import wording
from relope.evaluate.pages.lines import line_styles, sparse
from relope.evaluate.pages.panels import Label, end_labels, fitting, panel_title, share_axis
from relope.evaluate.pages.svg import MUTED, add_panel, draw
from relope.evaluate.pages.table import Cell, Record, Table, columns, row
from relope.evaluate.pages.wording import DASH, between_percent, percent, points, price, share

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAMED_AT = 50
HEIGHT = 420


def who_pays(report: Report) -> list[str]:
    """Return a sentence a budget: which large model pays there."""
    several = report.several
    if several is None:
        return []
    said = [_pays(several, key, pays) for key, pays in several.pays.items()]
    right = f"At least one of all models is right on {percent(several.any_right)} of the questions."
    return [*said, f"{right} Each is asked by the queue of {several.method}; intervals and p-values are not corrected."]


def _pays(several: Several, key: str, pays: Pays) -> str:
    at = next(model.at[key] for model in several.models if model.model == pays.model)
    where = f"At {share(float(key))} escalated"
    cost = "" if at.dollars is None else f", {price(at.dollars)} per 1,000 queries"
    right = f"the system is right on {percent(at.accuracy)}{cost}"
    if pays.over_next is None:
        return f"{where} {right} with {pays.model}."
    gap = f"{points(pays.over_next.value)} points ({between_percent(pays.over_next.ci95)})"
    if pays.is_shown:
        return f"{where} {pays.model} pays: {right}, {gap} more than with {pays.next}."
    return f"{where} it is not shown that {pays.model} is better than {pays.next}: {right}, {gap} more."


def several_tables(report: Report) -> list[Table]:
    """Return the table of shares, and that of dollars where prices are known; none with one large model."""
    several = report.several
    if several is None:
        return []
    return [_by_share(report, several), *([_by_dollars(several)] if several.for_dollars else [])]


def _by_share(report: Report, several: Several) -> Table:
    keys = list(several.pays)
    named = columns(["large model"], ["alone, right", *(f"right, {share(float(key))} escalated" for key in keys)])
    rows = [row(model.model, _alone(model), *(_cell(several, model, key) for key in keys)) for model in several.models]
    oracle = [percent(several.oracle_curve[round(100 * float(key))]) for key in keys]
    rows.append(row("oracle over all", percent(several.oracle_curve[-1]), *oracle))
    records = [record for model in several.models for record in _records(report, several, model)]
    notes = ["Small figures: 95 % intervals, and the mean cost of 1,000 queries where prices are known."]
    return Table("large_models", f"Large models on the queue of {several.method}", named, rows, records, notes=notes)


def _alone(model: BesideSmall) -> Cell:
    return _with(percent(model.accuracy), between_percent(model.ci95), model.dollars)


def _cell(several: Several, model: BesideSmall, key: str) -> Cell:
    at = model.at[key]
    return _with(percent(at.accuracy), between_percent(at.ci95), at.dollars, several.pays[key].model == model.model)


def _with(text: str, interval: str, dollars: float | None, strong: bool = False) -> Cell:
    return Cell(text, (interval, *(() if dollars is None else (price(dollars),))), strong=strong)


def _records(report: Report, several: Several, model: BesideSmall) -> list[Record]:
    label = {"model": report.small_name, "large_model": model.model, "data": report.dataset, "method": several.method}
    return [
        {
            **label,
            "n": report.n,
            "escalated": float(key),
            "accuracy": at.accuracy,
            "ci95_low": None if at.ci95 is None else at.ci95[0],
            "ci95_high": None if at.ci95 is None else at.ci95[1],
            "dollars": at.dollars,
            "pays": several.pays[key].model == model.model,
            "is_shown": several.pays[key].is_shown,
        }
        for key, at in model.at.items()
    ]


def _by_dollars(several: Several) -> Table:
    named = columns(["per 1,000 queries"], [model.model for model in several.models])
    rows = [
        row(
            price(budget.dollars),
            *(
                Cell(DASH if accuracy is None else percent(accuracy), strong=name == budget.best)
                for name, accuracy in budget.accuracy.items()
            ),
        )
        for budget in several.for_dollars
    ]
    records: list[Record] = [
        {"dollars": budget.dollars, "large_model": name, "accuracy": accuracy, "best": name == budget.best}
        for budget in several.for_dollars
        for name, accuracy in budget.accuracy.items()
    ]
    notes = ["The most accurate system of each large model at a mean cost of a query of at most so much."]
    return Table("large_models_dollars", "What dollars buy", named, rows, records, notes=notes)


def several_figure(report: Report) -> Markup | None:
    """Draw the curve of each large model, and of the oracle over all; None with one large model."""
    several = report.several
    if several is None:
        return None
    curves = {model.model: 100 * np.array(model.curve, dtype=np.float64) for model in several.models}
    oracle = 100 * np.array(several.oracle_curve)

    def paint(figure: "Figure") -> None:
        axes = add_panel(figure, 56, 50, 224, 48)
        ends, styles, shares = [], line_styles(list(curves)), np.arange(101)
        for rank, (name, curve) in enumerate(curves.items()):
            axes.plot(shares, curve, **styles[name], **sparse(rank), linewidth=2)
            told = fitting(name, f"{curve[NAMED_AT]:.1f} %")
            ends.append(Label(told, float(curve[NAMED_AT]), styles[name], rank == 0))
        axes.plot(shares, oracle, color=MUTED, dashes=(2, 3))
        low, high = float(min(curve.min() for curve in curves.values())), float(oracle.max())
        axes.set_xlim(0, 100)
        axes.set_xlabel("% of questions escalated")
        axes.yaxis.set_major_formatter("{x:g} %")
        share_axis(axes, low, high, 0.06 * max(high - low, 2.0), 100)
        panel_title(axes, "accuracy of the whole system")
        end_labels(axes, ends, HEIGHT - 98, heading=f"{NAMED_AT} % escalated")

    names = wording.listed(list(curves))
    return draw("large", f"Accuracy of the system with {names}, and of the oracle over all.", HEIGHT, paint)
