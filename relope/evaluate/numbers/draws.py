"""AUCs of reports read back, with the resamples that intervals and differences between reports come from."""

from dataclasses import replace

from relope.evaluate.numbers.bootstrap import bootstrap_rankings
from relope.evaluate.numbers.estimates import Estimate
from relope.evaluate.numbers.likeness import asked_otherwise
from relope.evaluate.numbers.persample import StoredReport
from relope.evaluate.numbers.ranking import rank


def resample_aucs(report: StoredReport, resamples: int, seed: int) -> dict[str, Estimate]:
    """Return method → AUC, averaged over its seeds; all methods share the resamples."""
    rankings = [[rank(report.correct, row) for row in rows] for rows in report.scores.values()]
    aucs = bootstrap_rankings(rankings, report.groups, resamples, seed)
    return dict(zip(report.scores, aucs, strict=True))


def align_reports(first: StoredReport, others: list[StoredReport]) -> tuple[list[StoredReport], bool]:
    """Return reports with their samples in the same order, and whether they are the same samples.

    Only then are differences between them paired; the groups are those of the first report.
    """
    if any(set(other.ids) != set(first.ids) or asked_otherwise(first, other) for other in others):
        return [first, *others], False
    taken = [other.take(first.ids) for other in others]
    group = first.samples["group"]
    return [first, *(replace(other, samples=other.samples.with_columns(group)) for other in taken)], True
