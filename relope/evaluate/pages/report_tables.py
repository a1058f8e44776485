"""The tables that are written beside a report: every number with its interval, or the reason why it is null."""

import dataclasses

from relope.evaluate.numbers.records import Metric, Report
from relope.evaluate.numbers.slices import Slice
from relope.evaluate.pages import wording
from relope.evaluate.pages.detail_tables import cost_table, seconds_table
from relope.evaluate.pages.several_models import several_tables
from relope.evaluate.pages.table import Cell, Record, Table, columns, hundred, row, signed_hundred
from relope.evaluate.pages.wording import DASH


def report_tables(report: Report) -> list[Table]:
    """Return the tables of a report."""
    label = {"model": report.small_name, "large_model": report.large_name, "data": report.dataset}
    tables = [_methods(report, label), _metrics(report, label), _slices(report, label), cost_table(report)]
    return [*tables, *several_tables(report), *([seconds] if (seconds := seconds_table(report)) else [])]


def _methods(report: Report, label: Record) -> Table:
    rows, records = [], []
    for method in report.methods:
        gap, (low, high) = method.difference_to_probe, method.ci95 or (None, None)
        spread = method.auc_sd_over_seeds
        judged: list[Cell | str] = [DASH, DASH, DASH]
        if gap is not None:
            judged = [signed_hundred(gap.value, gap.ci95), wording.p_number(gap.p_holm), gap.verdict]
        auc = hundred(method.auc, method.ci95)
        rows.append(row(method.method, auc, DASH if spread is None else f"{100 * spread:.1f}", *judged))
        more = {} if gap is None else dataclasses.asdict(gap)
        records.append(
            {
                **label,
                "method": method.method,
                "n": method.n,
                "auc": method.auc,
                "ci95_low": low,
                "ci95_high": high,
                "null_reason": method.auc_null_reason,
                "sd_over_seeds": spread,
                "seeds": len(method.seeds),
                **{f"difference_{key}": value for key, value in more.items() if key != "ci95"},
            }
        )
    title = f"AUC of P(correct): {report.small_name} on {report.dataset}, {report.n:,} samples"
    notes = [*(f"Warning: {warning.text}." for warning in report.warnings), report.caveat]
    numbers = ("AUC × 100", "± over seeds", "difference to probe", "p (Holm)", "verdict")
    return Table("methods", title, columns(["method"], numbers), rows, records, notes=notes)


def _metrics(report: Report, label: Record) -> Table:
    rows = [
        row(method.method, *(wording.fraction(metric.value) for metric in method.metrics.values()))
        for method in report.methods
    ]
    records = []
    for method in report.methods:
        counts = {**label, "method": method.method, "n": method.n, "groups": method.n_groups}
        records += [{**counts, "metric": name, **fields_of(metric)} for name, metric in method.metrics.items()]
    named = columns(["method"], list(report.methods[0].metrics))
    return Table("metrics", f"Every metric on {report.n:,} samples", named, rows, records)


def fields_of(metric: Metric) -> Record:
    """Return a metric as the fields of a record."""
    low, high = metric.ci95 or (None, None)
    interval = {"value": metric.value, "ci95_low": low, "ci95_high": high}
    return {**interval, "null_reason": metric.null_reason, "dropped": metric.dropped}


def _slices(report: Report, label: Record) -> Table:
    def record(part: Slice) -> Record:
        low, high = part.ci95 or (None, None)
        known = {key: value for key, value in dataclasses.asdict(part).items() if key != "ci95"}
        return {**label, "method": report.best, **known, "ci95_low": low, "ci95_high": high}

    rows = [
        row(
            part.column,
            part.value,
            f"{part.n:,}",
            wording.percent(part.small_accuracy),
            wording.percent(part.large_accuracy),
            wording.percent(part.escalated),
            wording.percent(part.kept_accuracy),
            hundred(part.auc, part.ci95),
        )
        for part in report.slices
    ]
    numbers = ("samples", "small right", "large right", "escalated", "right of the kept", "AUC × 100")
    named = columns(["column", "value"], numbers)
    title = f"Parts of the data, scored by {report.best}{', first seed' if len(report.best_row.seeds) > 1 else ''}"
    return Table("slices", title, named, rows, list(map(record, report.slices)))
