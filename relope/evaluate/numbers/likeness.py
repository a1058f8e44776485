"""Whether reports are about the same: what was asked under the same ids, and who judged the answers."""

from collections.abc import Iterator, Sequence

from relope.asked import ASKED, AskedOtherwise, first_difference
from relope.evaluate.numbers.persample import StoredReport
from relope.types import ResultWarning


def asked_otherwise(first: StoredReport, second: StoredReport) -> AskedOtherwise | None:
    """Return the first sample that two reports share by its id alone; images may differ where they are shown otherwise.

    Reports of an older relope do not tell what was asked: of them ids are all there is.
    """
    if any(ASKED not in report.samples.columns for report in (first, second)):
        return None
    views = [(report.text_only, report.perturbation) for report in (first, second)]
    return first_difference(first.samples, second.samples, () if views[0] == views[1] else ("images",))


def unlike(reports: Sequence[StoredReport]) -> Iterator[ResultWarning]:
    """Yield what must be said before numbers of several reports are put side by side.

    Reports of one data set are held against the first of it; other data sets may have graders of their own.
    """
    firsts: dict[str, StoredReport] = {}
    for report in reports:
        first = firsts.setdefault(report.dataset, report)
        names = f"{first.path.name} and {report.path.name}"
        if first.grader and report.grader and first.grader != report.grader:
            judged = f"{first.grader} and {report.grader}"
            yield ResultWarning(
                "wrong", f"{names} are judged by {judged}: a difference between them may be the graders'"
            )
        if differs := asked_otherwise(first, report):
            text = f"{names} ask other things under {differs.n:,} of the same ids: {differs}"
            yield ResultWarning("wrong", f"{text}; they are not paired")
