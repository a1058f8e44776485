"""The report's further tables: routing, budgets, prices, calibration and costs."""

import math
from collections.abc import Callable, Iterable, Mapping

from relope.evaluate.numbers.budget import Realised
from relope.evaluate.numbers.costs import Axis
from relope.evaluate.numbers.records import MethodRow, Metric, Report
from relope.evaluate.pages import wording
from relope.evaluate.pages.table import Cell, Column, Row, Table, row
from relope.evaluate.pages.wording import DASH, NARROW, NBSP

ROUTING = (
    ("apgr", "APGR", "mean share of the gap between the models that is recovered; random: 0.5", wording.fraction),
    ("cpt_50", f"CPT(50{NBSP}%)", "least share escalated that recovers half of the gap", wording.percent),
    ("cpt_80", f"CPT(80{NBSP}%)", "… that recovers four fifths of it", wording.percent),
    ("qnc", "QNC", "… that is as accurate as the large model alone", wording.percent),
    ("auarc", "AUARC", "mean accuracy of the small model on what it keeps", wording.fraction),
    ("tpr_at_fpr_1", f"TPR at 1{NBSP}% FPR", f"right answers kept when 1{NBSP}% of the wrong are", wording.percent),
    ("tpr_at_fpr_5", f"TPR at 5{NBSP}% FPR", f"… when 5{NBSP}% of the wrong are", wording.percent),
)
"""Statistic, its heading, what that stands for, and how it is written."""

CALIBRATION = {
    "brier": "Brier score",
    "brier_calibrated": "calibrated",
    "ece": "calibration error",
    "ece_calibrated": "calibrated",
}
UNITS: dict[Axis, tuple[str, int]] = {"dollars": ("$ per 1,000 queries", 1000), "latency": ("seconds a query", 1)}
"""What the mean cost of a query is written in, and how many queries that is the cost of."""

PAID = (
    "A query that is kept costs the small model's prompt and answer. One that is escalated costs the large model's, "
    "and the small model's prompt; a method that decides after the answer has paid that too."
)


def rows_of(report: Report, cells: Callable[[MethodRow], Iterable[Cell | str]]) -> list[Row]:
    """Return one row a method, the best one marked."""
    return [
        row(
            f"{method.method}{' (control)' if method.is_control else ''}",
            *cells(method),
            style="best" if method.method == report.best else "",
        )
        for method in report.methods
    ]


def columns_of(*titles: str) -> list[Column]:
    """Return the method's column and columns of numbers."""
    return [Column("method", style="label"), *(Column(title, style="n") for title in titles)]


def _number(metric: Metric, write: Callable[[float], str]) -> Cell:
    if metric.value is None:
        return Cell(DASH)
    spread = wording.between_percent if write is wording.percent else wording.between
    return Cell(write(metric.value), (wording.NO_INTERVAL if metric.ci95 is None else spread(metric.ci95),))


def _not_defined(report: Report, titles: Mapping[str, str]) -> str:
    """Say which statistics of a table have no interval and why, and on how many resamples the others are undefined.

    What decides it is of the samples, the same for every method.
    """
    said: dict[str, list[str]] = {}
    for key, title in titles.items():
        metric = report.methods[0].metrics[key]
        if metric.value is not None and metric.ci95 is None and metric.null_reason:
            said.setdefault(metric.null_reason, []).append(title)
        elif metric.ci95 is not None and metric.dropped:
            left_out = f"an interval without the {100 * metric.dropped:.2g} % of the resamples on which it is undefined"
            said.setdefault(left_out, []).append(title)
    return "".join(
        f" {wording.listed(names)} {'have' if len(names) > 1 else 'has'} {why}." for why, names in said.items()
    )


def routing_table(report: Report) -> Table:
    """Return the routing metrics with their intervals."""
    rows = rows_of(report, lambda method: [_number(method.metrics[key], write) for key, _, _, write in ROUTING])
    first = report.methods[0].metrics["apgr"]
    missing = "" if first.value is not None else f" APGR, CPT and QNC are undefined: {first.null_reason}."
    missing += _not_defined(report, {key: title for key, title, _, _ in ROUTING})
    caption = f"Each heading says what its numbers are. Small figures: 95{NBSP}% intervals, as above.{missing}"
    numbers = [Column(title, style="n", means=means) for _, title, means, _ in ROUTING]
    return Table("routing", "Routing", [Column("method", style="label"), *numbers], rows, caption=caption)


def budget_table(report: Report) -> Table:
    """Return the threshold of each budget, and what it really escalates where that is not what was asked for."""
    held = all(method.budgets_set_on == "validation" for method in report.methods)
    where = "on the validation split" if held else f"on the scores of these {report.n:,} samples themselves"
    rows = rows_of(report, lambda method: [_threshold(budget) for budget in method.budgets])
    caption = (
        f"Thresholds: escalate what scores below. Each is set {where}. Small figures: the share of these samples "
        "that it really escalates, where that is not what was asked for; equal scores move together."
        f"{wording.of_first_seed(report)}"
    )
    asked = [round(100 * budget.requested, 6) for budget in report.methods[0].budgets]
    return Table(
        "budgets", "Thresholds", columns_of(*(f"for {mark:g}{NARROW}%" for mark in asked)), rows, caption=caption
    )


def _threshold(budget: Realised) -> Cell:
    asked, really = wording.percent(budget.requested), wording.percent(budget.realised)
    return Cell(f"{budget.threshold:.4f}", () if really == asked else (f"really {really}",))


def price_tables(report: Report) -> list[Table]:
    """Return the mean cost of a query by share escalated, a table for each axis whose prices are known."""
    return [_prices(report, axis) for axis, costs in (report.methods[0].costs or {}).items() if costs is not None]


def unknown_axes(report: Report) -> list[Axis]:
    """Return the axes that a price list leaves unknown."""
    return [axis for axis, costs in (report.methods[0].costs or {}).items() if costs is None]


def _prices(report: Report, axis: Axis) -> Table:
    (unit, factor), keys = UNITS[axis], list((report.methods[0].costs or {})[axis] or {})

    def costs(method: MethodRow) -> list[float]:
        line = (method.costs or {})[axis] or {}
        return [factor * line[key] for key in keys]

    digits = _digits(min(min(costs(method)) for method in report.methods))

    def cells(method: MethodRow) -> list[str]:
        decides = {True: "before the answer", False: "after the answer", None: DASH}[method.decides_before_answer]
        return [decides, *(f"{cost:.{digits}f}" for cost in costs(method))]

    method, *numbers = columns_of(*(f"{wording.share(float(key))} escalated" for key in keys))
    columns = [method, Column("decides", style="label"), *numbers]
    return Table(f"prices_{axis}", f"Mean cost: {unit}.", columns, rows_of(report, cells))


def _digits(smallest: float) -> int:
    """Return the decimals that show three digits of the smallest number."""
    return max(0, 2 - math.floor(math.log10(smallest))) if smallest > 0 else 3


def paid(report: Report) -> str:
    """Say what a query costs, and what of it is not counted."""
    asking = {method.method: method.not_counted for method in report.methods if method.not_counted}
    if not asking:
        return PAID
    flags = wording.listed(sorted({needs.split()[0] for needs in asking.values()}))
    return (
        f"{PAID} Not counted: what the small model does beside answering for {wording.listed([*asking])} ({flags}), "
        "so those cost more."
    )


def seconds_table(report: Report) -> Table | None:
    """Return how long the models' answers took; None where nobody has measured."""
    if not report.seconds_answers:
        return None
    rows, records = [], []
    for took in report.seconds_answers:
        how = f"its runs on {took.where}" if took.where else "each answer"
        how += ", sampled traces included" if took.holds_traces else ""
        rows.append(row(took.model, how, f"{took.n:,}", *map(_three_digits, (took.mean, took.p50, took.p95))))
        records.append({"model": took.model, "measured": how, **{key: getattr(took, key) for key in _TOOK}})
    caption = (
        "Seconds that answers took. Each answer: from the request to its end, on the samples of this report. Runs: "
        "seconds of computation over their answers, of all splits. That is throughput, a batch's share, and nobody's "
        "latency: a question asked alone takes longer. Prompt and answer; sampled traces and p(True) are left out."
    )
    numbers = [Column(title, style="n") for title in ("answers", "mean seconds", "median", f"95{NBSP}% within")]
    columns = [Column("model", style="label"), Column("measured"), *numbers]
    return Table("answer_seconds", "Seconds that answers took", columns, rows, records, caption=caption)


_TOOK = ("n", "mean", "p50", "p95", "holds_traces")


def _three_digits(seconds: float | None) -> str:
    return DASH if seconds is None else f"{seconds:.{_digits(seconds)}f}"


def calibration_table(report: Report) -> Table:
    """Return Brier scores and calibration errors, before and after calibration."""
    rows = rows_of(report, lambda method: [_number(method.metrics[key], wording.fraction) for key in CALIBRATION])
    caption = (
        f"Lower is better. Small figures: 95{NBSP}% intervals. Scores of methods without training rank answers; "
        "nothing made them probabilities. Calibrated: isotonic, cross-fitted, never on the samples it is judged on. "
        f"By chance alone perfect scores show an error of up to about {wording.fraction(by_chance(report), 2)} on "
        f"{report.n:,} samples.{_not_defined(report, CALIBRATION)}"
    )
    return Table("calibration", "Calibration", columns_of(*CALIBRATION.values()), rows, caption=caption)


def by_chance(report: Report) -> float:
    """Return about what the calibration error of 15 bins is where scores are the true probabilities.

    Choice: each bin's share differs from its score by a normal error, whose mean size is √(2/π) standard deviations;
    p (1 − p) is taken of the share that is right among all, which makes it a bound.
    """
    right = report.n_correct / report.n
    return math.sqrt(2 / math.pi * right * (1 - right) * min(15, report.n) / report.n)


def cost_table(report: Report) -> Table:
    """Return time and reading of each method."""
    keys = ("seconds_fit", "bytes_read_fit", "seconds_predict_each", "bytes_read_each")

    def cells(method: MethodRow) -> list[str]:
        return [
            wording.seconds(method.seconds_fit) if method.needs_training else "none",
            wording.size(method.bytes_read_fit),
            wording.milliseconds(method.seconds_predict_each),
            wording.size(method.bytes_read_each),
        ]

    label = {"model": report.small_name, "large_model": report.large_name, "data": report.dataset}
    records = [{**label, "method": each.method, **{key: getattr(each, key) for key in keys}} for each in report.methods]
    columns = columns_of("training", "read for training", "overhead a query", "read a query")
    caption = (
        "Training of the first seed; overhead is the time to score a sample from the store, on top of the small "
        "model's own work, on the machine that scored them, once. Read: bytes of hidden states taken from the store."
    )
    return Table("costs", "What the methods cost", columns, rows_of(report, cells), records, caption=caption)
