"""What the tables of several reports share: cells, records, and what must be said below them."""

from collections.abc import Sequence

import numpy as np

from relope.evaluate.numbers.estimates import Estimate
from relope.evaluate.numbers.metrics import auc_null_reason
from relope.evaluate.numbers.persample import StoredReport
from relope.evaluate.pages.table import Cell, Record, Table, columns, hundred, row
from relope.evaluate.pages.wording import DASH
from relope.evaluate.studies import published
from relope.evaluate.studies.inputs import StudyInputs

PAIRED = "Intervals are 95 % intervals over image groups; differences between the same samples are paired."
SEEDS = "AUCs are means over the seeds of a method; intervals cover the sampling of questions, not of seeds."
CANNOT = (
    "The numbers hold for these models, data and splits. An interval says how far the AUC may move with other "
    "questions of the same kind, not with other models or data."
)
EMBEDDED = ("tiny-vl", "tiny-vl-large")
TINY = (
    " The embedded models are miniatures: that a number can be made at all is shown here, not what a 7–12 B model does."
)


def shows(inputs: StudyInputs, text: str) -> str:
    """Return what a study's numbers can and cannot show."""
    tiny = any(report.model in EMBEDDED for report in inputs.reports)
    return f"{text} {CANNOT}{TINY if tiny else ''}"


def record(report: StoredReport, method: str, auc: Estimate, paper: float | None = None, **more: object) -> Record:
    """Return a number with everything that says what it is of."""
    low, high = auc.ci95 or (None, None)
    known = method in report.scores
    return {
        "model": report.model,
        "data": report.report.dataset,
        **more,
        "method": method,
        "n": report.report.n,
        "groups": len(np.unique(report.groups)),
        "seeds": len(report.scores[method]) if known else 0,
        "value": auc.known,
        "ci95_low": low,
        "ci95_high": high,
        "published": paper,
        "null_reason": None if auc.known is not None else _reason(report, method),
    }


def _reason(report: StoredReport, method: str) -> str:
    if method not in report.scores:
        return f"{method} was not run"
    return auc_null_reason(report.correct) or "one of its parts is undefined"


def unknown_notes(records: Sequence[Record]) -> list[str]:
    """Say in a note why numbers are missing."""
    data: dict[str, set[str]] = {}
    for number in records:
        if number["null_reason"]:
            data.setdefault(number["null_reason"], set()).add(str(number["data"]))
    return [f"{DASH} ({', '.join(sorted(names))}): {reason}." for reason, names in data.items()]


def cell(auc: Estimate, paper: float | None) -> Cell:
    """Write an AUC × 100 with its interval and the published number."""
    ours = hundred(auc.known, auc.ci95)
    return ours if paper is None or not ours.under else Cell(ours.text, (*ours.under, f"paper {100 * paper:.1f}"))


def published_table(name: str) -> Table:
    """Return the paper's table as printed, averages computed anew where it has any."""
    printed = published.rows(name)
    keys = [key for key in printed[0] if not key.startswith(("avg", "delta", "matches"))]
    cells = [[line[key] for key in keys] for line in printed]
    notes = ["Printed in the paper (arXiv 2603.24787v1): AUC × 100, test sizes and intervals are not given there."]
    if name in ("table2", "table4"):
        keys = [*keys, "average"]
        cells = [[*texts, f"{published.average(line):.2f}"] for texts, line in zip(cells, printed, strict=True)]
    if wrong := [line for line in printed if line.get("avg_matches") == "NO"]:
        listed = "; ".join(f"{line['backbone']} {line['method']} prints {line['avg_printed']}" for line in wrong)
        notes.append(f"Averages are recomputed: {len(wrong)} printed ones are not the mean of their row ({listed}).")
    records = [dict(zip(keys, texts, strict=True)) for texts in cells]
    labels = [key for key in keys if key in ("backbone", "method", "condition")]
    named = columns(labels, keys[len(labels) :], grouped=keys[0] == "backbone")
    return Table(f"{name}_published", "Published", named, [row(*texts) for texts in cells], records, notes)
