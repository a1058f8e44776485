"""The tables with intervals drawn beside the numbers: the report's main one, and parts of the data."""

import math

from relope.evaluate.numbers.inputs import BASELINE
from relope.evaluate.numbers.records import MethodRow, Report
from relope.evaluate.numbers.slices import Slice
from relope.evaluate.pages import wording
from relope.evaluate.pages.scale import Scale
from relope.evaluate.pages.table import Cell, Column, Mark, Row, Table, row
from relope.evaluate.pages.wording import DASH, NBSP

CONTROLS = (
    "Controls look at no hidden state: they know only the kind of question, or the kind and how confident the "
    "answer was; a router that does not beat them is not shown to read anything inside the model."
)
SLICE_TITLES = {
    "kind": "kind of question",
    "dataset": "data set",
    "images": "images shown",
    "question_type": "type of question",
}


def methods_table(report: Report) -> Table:
    """Return the main table, controls set apart at its end."""
    baseline = next((method.auc for method in report.methods if method.method == BASELINE), None)
    scale = Scale.over((method.ci95 for method in report.methods), baseline)
    caption = (
        f"Ranking of right above wrong answers on {wording.judged_on(report)}, in {report.n_groups:,} image groups "
        f"({report.n_correct:,} answered rightly), the same for every row. Small figures: 95{NBSP}% intervals, "
        "not corrected for the number of rows: one may leave out 0 where the verdict shows no difference. "
        f"AUC 0.5 is chance. {'The dashed line is the probe. ' if baseline is not None else ''}"
        "Differences are paired; a verdict says higher or lower only where p stays below 0.05 after Holm's correction "
        f"for all rows.{_seeds(report)}"
    )
    at = wording.share(report.budget)
    right = ("system right" if report.has_system else "right of the kept", f"{at} escalated")
    columns = [
        Column("method", style="label"),
        Column("AUC"),
        Column("interval", scale=scale),
        Column(f"difference to {BASELINE}"),
        Column(*right, style="n"),
        Column("time to fit", style="n"),
    ]
    kept = [_method(report, method) for method in report.methods if not method.is_control]
    controls = [_method(report, method) for method in report.methods if method.is_control]
    return Table("ranking", "Methods", columns, [*kept, *controls], caption=caption, apart=CONTROLS)


def _seeds(report: Report) -> str:
    if not any(len(method.seeds) > 1 for method in report.methods):
        return ""
    return (
        " Rows with several seeds are means over the seeds; their spread (± standard deviation) is shown apart, "
        "since the intervals cover the sampling of questions only."
    )


def _method(report: Report, method: MethodRow) -> Row:
    best, base = method.method == report.best, method.method == BASELINE
    colour = "var(--s1)" if best else "var(--grey)" if method.is_control else "currentColor"
    return row(
        Cell(method.method, note=method.note),
        _auc(method),
        Cell(mark=_mark(method.auc, method.ci95, colour)),
        _difference(report, method),
        _share(method.accuracy_at[report.at_budget], method.accuracy_at_ci95.get(report.at_budget)),
        wording.seconds(method.seconds_fit) if method.needs_training else "none",
        style="best" if best else "base" if base else "",
        apart=method.is_control,
    )


def _share(value: float | None, bounds: tuple[float, float] | None) -> Cell:
    return Cell(wording.percent(value), () if bounds is None else (wording.between_percent(bounds),))


def _mark(value: float | None, interval: tuple[float, float] | None, colour: str) -> Mark | None:
    return None if value is None or interval is None else (value, interval, colour)


def _auc(method: MethodRow) -> Cell:
    if method.auc is None:
        return Cell(DASH, note=method.auc_null_reason or "")
    under = [wording.between(method.ci95)]
    if method.auc_sd_over_seeds is not None:
        under.append(f"± {method.auc_sd_over_seeds:.3f} over {len(method.seeds)} seeds")
    return Cell(wording.fraction(method.auc), tuple(under), strong=True)


def _difference(report: Report, method: MethodRow) -> Cell:
    gap, word = method.difference_to_probe, wording.standing(method)
    if gap is None:
        return Cell(word=word)
    detail = f"{wording.between_signed(gap.ci95)}, {wording.p_value(gap.p_holm)}"
    if gap.p_delong is not None:
        detail += f" (DeLong {wording.p_value(gap.p_delong)})"
    elif report.n_groups == report.n and any(len(each.seeds) > 1 for each in (method, report.row(BASELINE))):
        detail += f" (DeLong {DASH}: it compares single seeds)"
    tone = "no" if method.seen else word if word in ("higher", "lower") else "muted"
    return Cell(wording.signed(gap.value), (detail,), word, tone)


def slice_tables(report: Report) -> list[Table]:
    """Return one table a column that the samples were cut by."""
    parts: dict[str, list[Slice]] = {}
    for part in report.slices:
        parts.setdefault(part.column, []).append(part)
    # Of a single data set there is nothing to compare, unless nothing else was cut.
    return [
        _slices(report, column, values)
        for column, values in parts.items()
        if column != "dataset" or len(values) > 1 or len(parts) == 1
    ]


def _slices(report: Report, column: str, parts: list[Slice]) -> Table:
    best = report.best_row
    of_one, dashed_of = ("first seed", ", of the first seed as all numbers here") if len(best.seeds) > 1 else ("", "")
    scale = Scale.over((part.ci95 for part in parts), best.auc_of_first_seed)
    numbers = ("samples", "small right", "large right", "escalated", "right of the kept")
    columns = [
        Column(SLICE_TITLES.get(column, column)),
        *(Column(title, style="n") for title in numbers),
        Column(f"AUC of {best.method}", of_one, style="apart"),
        Column("interval", scale=scale),
    ]
    caption = (
        f"Dashed: the AUC over all samples{dashed_of}. Orange: the whole 95{NBSP}% interval lies below it, as that of "
        f"one part in 40 does by chance. Shares stand without intervals: of 20 samples they may be {_off(20)} points "
        f"off, of 100 samples {_off(100)}."
    )
    rows = [_slice(part, scale) for part in parts]
    return Table(f"slices_{column}", f"Parts of the data by {column}", columns, rows, caption=caption)


def _off(n: int) -> int:
    """Return half the width of a 95 % interval of a share of so many samples, in points, where it is widest."""
    return round(100 * 1.96 * math.sqrt(0.25 / n))


def _slice(part: Slice, scale: Scale) -> Row:
    below = scale.reference is not None and part.ci95 is not None and part.ci95[1] < scale.reference
    auc = Cell(DASH, note=part.auc_null_reason or "")
    if part.auc is not None:
        auc = Cell(wording.fraction(part.auc), word=wording.between(part.ci95))
    shares = (part.small_accuracy, part.large_accuracy, part.escalated, part.kept_accuracy)
    mark = _mark(part.auc, part.ci95, "var(--s2)" if below else "var(--s1)")
    return row(part.value, f"{part.n:,}", *map(wording.percent, shares), auc, Cell(mark=mark))
