"""What changed between two reports."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relope.errors import InvalidInputError
from relope.evaluate.numbers.draws import align_reports, resample_aucs
from relope.evaluate.numbers.estimates import Estimate
from relope.evaluate.numbers.likeness import asked_otherwise, unlike
from relope.evaluate.numbers.metrics import auc_null_reason
from relope.evaluate.numbers.persample import StoredReport, open_report
from relope.evaluate.numbers.significance import Comparison, compared
from relope.evaluate.pages.table import Record, Row, Table, columns, hundred, row, signed_hundred
from relope.evaluate.pages.wording import DASH, p_number
from relope.types import ResultWarning, worst_first

UNCHANGED = "no change shown"
"""What the verdict is called where the difference is one between two runs."""


@dataclass(frozen=True)
class Change:
    """A method's AUC in both reports, and the change from the first to the second; None where that is undefined."""

    method: str
    first: Estimate
    second: Estimate
    comparison: Comparison | None

    @property
    def verdict(self) -> str:
        """Return which way it goes, in the words for two runs."""
        if self.comparison is None:
            return DASH
        return UNCHANGED if self.comparison.verdict == "no difference shown" else self.comparison.verdict

    def record(self) -> Record:
        """Return the numbers as JSON values."""
        gap = self.comparison
        return {
            "method": self.method,
            "first": self.first.known,
            "first_ci95": self.first.ci95,
            "second": self.second.known,
            "second_ci95": self.second.ci95,
            "change": None if gap is None else gap.value,
            "ci95": None if gap is None else gap.ci95,
            "p": None if gap is None else gap.p,
            "p_holm": None if gap is None else gap.p_holm,
            "verdict": self.verdict,
        }

    def row(self) -> Row:
        """Return the row of the table."""
        gap = self.comparison
        return row(
            self.method,
            hundred(self.first.known, self.first.ci95),
            hundred(self.second.known, self.second.ci95),
            DASH if gap is None else signed_hundred(gap.value, gap.ci95),
            DASH if gap is None else p_number(gap.p_holm),
            self.verdict,
        )


@dataclass(frozen=True)
class ReportComparison:
    """What changed between two reports.

    Attributes:
        what: how they were compared, and what only one of them has.
        paired: whether their samples are the same.
        n: samples of both.
        null_reason: why an AUC is undefined.
        accuracy: of the small model in both.
        settings_changed: fields of the provenance in which they differ.
        warnings: of both reports, worst first.
    """

    what: str
    paired: bool
    changes: Sequence[Change]
    only_in_first: Sequence[str]
    only_in_second: Sequence[str]
    n: tuple[int, int]
    null_reason: str | None
    accuracy: tuple[float, float]
    settings_changed: Sequence[str]
    warnings: Sequence[ResultWarning] = ()

    @property
    def table(self) -> Table:
        """Return what the command line prints."""
        named = columns(["method"], ["first", "second", "change", "p (Holm)", "verdict"])
        title = "AUC × 100: change from first to second"
        return Table("changes", title, named, [change.row() for change in self.changes])

    def to_json(self) -> dict[str, Any]:
        """Return the comparison as JSON values."""
        sizes = {"n_first": self.n[0], "n_second": self.n[1], "null_reason": self.null_reason}
        return {
            "title": self.table.title,
            "what": self.what,
            "paired": self.paired,
            "columns": self.table.headings,
            "rows": self.table.texts,
            "records": [{**change.record(), **sizes} for change in self.changes],
            "only_in_first": list(self.only_in_first),
            "only_in_second": list(self.only_in_second),
            "accuracy": list(self.accuracy),
            "settings_changed": list(self.settings_changed),
        }


def compare_reports(first: Path, second: Path, resamples: int, seed: int) -> ReportComparison:
    """Compare each method's AUC in both reports, with the interval of the change.

    Paired when the samples are the same; otherwise the two are resampled independently.

    Raises:
        NotFoundError: a folder has no report.
        InvalidInputError: a report is damaged, or the two share no method.
    """
    (before, after), paired = _aligned(open_report(first), open_report(second))
    aucs = resample_aucs(before, resamples, seed), resample_aucs(after, resamples, seed if paired else seed + 1)
    only = [name for name in aucs[0] if name not in aucs[1]], [name for name in aucs[1] if name not in aucs[0]]
    return ReportComparison(
        what=_what(before, after, paired, only),
        paired=paired,
        changes=_changes(*aucs),
        only_in_first=only[0],
        only_in_second=only[1],
        n=(len(before.correct), len(after.correct)),
        null_reason=auc_null_reason(before.correct) or auc_null_reason(after.correct),
        accuracy=(float(before.correct.mean()), float(after.correct.mean())),
        settings_changed=_settings(before, after),
        warnings=worst_first((*unlike((before, after)), *before.warnings, *after.warnings)),
    )


def _changes(first: Mapping[str, Estimate], second: Mapping[str, Estimate]) -> list[Change]:
    shared = [name for name in first if name in second]
    comparisons = compared({name: second[name].minus(first[name]).test() for name in shared})
    return [Change(name, first[name], second[name], comparisons.get(name)) for name in shared]


def _aligned(first: StoredReport, second: StoredReport) -> tuple[list[StoredReport], bool]:
    if not set(first.scores) & set(second.scores):
        raise InvalidInputError(
            f"{first.path} has the methods {', '.join(first.scores)}, {second.path} has {', '.join(second.scores)}: "
            "none in common, so nothing can be compared"
        )
    return align_reports(first, [second])


def _what(before: StoredReport, after: StoredReport, paired: bool, only: tuple[list[str], list[str]]) -> str:
    sizes = len(before.correct), len(after.correct)
    how = f"other samples ({sizes[0]:,} and {sizes[1]:,}), so changes are not paired"
    if differs := asked_otherwise(before, after):
        how += f"; {differs.n:,} have one id and are other questions: {differs}"
    if paired:
        how = f"the same {sizes[0]:,} samples, so changes are paired"
        if flipped := int((before.correct != after.correct).sum()):
            how += f"; {flipped:,} grades of the small model differ"
    lines = [f"{before.path} and {after.path}: {how}"]
    sides = zip(("first", "second"), only, strict=True)
    lines += [f"only in the {side}: {', '.join(names)}" for side, names in sides if names]
    for report in (before, after):
        if reason := auc_null_reason(report.correct):
            lines.append(f"no AUC in {report.path}: {reason}")
    if changed := _settings(before, after):
        lines.append(f"changed between the runs: {', '.join(changed)}")
    return "\n".join(lines)


def _settings(before: StoredReport, after: StoredReport) -> list[str]:
    """Return the fields of the provenance in which two reports differ."""
    first, second = before.report.provenance, after.report.provenance
    skipped = ("fingerprint", "versions", "scores", "command", "date")
    keys = [key for key in sorted({*first, *second}) if key not in skipped and first.get(key) != second.get(key)]
    versions = {*first.get("versions", {}).items()} ^ {*second.get("versions", {}).items()}
    return keys + sorted({name for name, _ in versions})
