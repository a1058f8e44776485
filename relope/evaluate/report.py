"""The report of a run: ``report.json`` for programs, ``report.html`` for people."""

from pathlib import Path
from typing import Any

from relope.evaluate.numbers.analysis import analyse
from relope.evaluate.numbers.inputs import MethodScores, ReportInputs
from relope.evaluate.numbers.persample import SCORES, per_sample
from relope.evaluate.numbers.summary import summarise
from relope.evaluate.pages import wording
from relope.evaluate.pages.export import report_tables, write_tables
from relope.evaluate.pages.page import render
from relope.provenance import write_bytes, write_frame, write_json

__all__ = ["MethodScores", "ReportInputs", "build_report", "terminal_rows"]


def build_report(inputs: ReportInputs, out: Path) -> dict[str, Any]:
    """Write ``tables/``, ``scores.parquet``, ``report.html`` and last ``report.json`` into a folder.

    Args:
        inputs: what to report on.
        out: folder, made if it does not exist.

    Returns:
        The content of ``report.json``.

    Raises:
        OutputError: the folder cannot be written to.
    """
    analysis = analyse(inputs)
    report = summarise(analysis)
    write_tables(out, report_tables(report))
    write_frame(out / SCORES, per_sample(inputs))
    write_bytes(out / "report.html", render(analysis, report).encode())
    write_json(out / "report.json", report)
    return report


def terminal_rows(report: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return the columns and rows of the command line's table, best method first."""
    system = report["accuracy_at_is"] == "system"
    at = "system @ 20 %" if system else "kept @ 20 %"
    columns = ["method", "AUC", "95 % interval", "vs probe", "verdict", at, "fit"]
    rows = []
    for row in report["methods"]:
        difference = row["difference_to_probe"]
        rows.append(
            [
                f"{row['method']} (control)" if row["is_control"] else row["method"],
                wording.fraction(row["auc"]),
                wording.between(row["ci95"]),
                wording.DASH if difference is None else wording.signed(difference["value"]),
                wording.verdict(row) if row["auc"] is not None else row["auc_null_reason"],
                wording.percent(row["accuracy_at"]["0.2"]),
                wording.seconds(row["seconds_fit"]),
            ]
        )
    return columns, rows
