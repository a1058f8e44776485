"""The report of a run: ``report.json`` for programs, ``report.html`` for people."""

from pathlib import Path

from relope.errors import InvalidInputError, NotFoundError
from relope.evaluate.numbers.analysis import analyse
from relope.evaluate.numbers.inputs import MethodScores, ReportInputs
from relope.evaluate.numbers.persample import REPORT, SCORES, per_sample, read_report
from relope.evaluate.numbers.records import MethodRow, Report
from relope.evaluate.numbers.summary import summarise
from relope.evaluate.pages import wording
from relope.evaluate.pages.export import write_tables
from relope.evaluate.pages.first_screen import summary_table
from relope.evaluate.pages.page import render_report
from relope.evaluate.pages.report_tables import report_tables
from relope.evaluate.pages.several_models import several_tables
from relope.evaluate.pages.table import Row, Table, columns, row
from relope.provenance import write_bytes, write_frame, write_json

__all__ = [
    "MethodScores",
    "Report",
    "ReportInputs",
    "build_report",
    "finished_report",
    "read_report",
    "terminal_table",
    "terminal_tables",
]

PAGE = "report.html"


def build_report(inputs: ReportInputs, out: Path) -> Report:
    """Write ``tables/``, ``scores.parquet``, ``report.html`` and last ``report.json`` into a folder.

    Args:
        inputs: what to report on.
        out: folder, made if it does not exist.

    Raises:
        OutputError: the folder cannot be written to.
    """
    analysis = analyse(inputs)
    report = summarise(analysis)
    write_tables(out, report_tables(report))
    write_frame(out / SCORES, per_sample(inputs))
    write_bytes(out / PAGE, render_report(analysis, report).encode())
    write_json(out / REPORT, report.to_json())
    return report


def finished_report(folder: Path, fingerprint: str) -> Report | None:
    """Return the report of a folder if it is whole and was made of the same inputs, else None."""
    if not (folder / PAGE).is_file():
        return None
    try:
        report = read_report(folder)
    except (InvalidInputError, NotFoundError):
        return None
    return report if report.provenance.get("fingerprint") == fingerprint else None


def terminal_tables(report: Report) -> list[Table]:
    """Return what the command line prints of a report: what it comes to, then every method, the best first."""
    summary = summary_table(report)
    tables = [terminal_table(report)] if summary is None else [summary, terminal_table(report)]
    return [*tables, *several_tables(report)]


def terminal_table(report: Report) -> Table:
    """Return the table of methods that the command line prints."""
    accuracy = f"{'system' if report.has_system else 'kept'} @ {wording.share(report.budget)}"
    compared = any(method.difference_to_probe is not None for method in report.methods)
    to_probe = ["vs probe", "verdict"] if compared or any(method.auc_null_reason for method in report.methods) else []
    named = columns(["method"], ["AUC", "95 % interval", *to_probe, accuracy, "fit"])
    rows = [_row(method, report.at_budget, bool(to_probe)) for method in report.methods]
    return Table("terminal", f"AUC of P(correct) on {wording.judged_on(report)}", named, rows)


def _row(method: MethodRow, at: str, to_probe: bool) -> Row:
    gap = method.difference_to_probe
    signed = wording.DASH if gap is None else wording.signed(gap.value)
    return row(
        _named(method),
        wording.fraction(method.auc),
        wording.between(method.ci95),
        *((signed, method.auc_null_reason or wording.standing(method)) if to_probe else ()),
        wording.percent(method.accuracy_at[at]),
        wording.seconds(method.seconds_fit),
    )


def _named(method: MethodRow) -> str:
    seen = [f"learned from {', '.join(method.seen)}"] if method.seen else []
    marks = ["control"] * method.is_control + seen
    return f"{method.method} ({'; '.join(marks)})" if marks else method.method
