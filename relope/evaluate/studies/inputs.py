"""What a study is asked for, what it is made of, and what it says."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from markupsafe import Markup

from relope.errors import InvalidInputError
from relope.evaluate.numbers.persample import StoredReport
from relope.evaluate.pages.table import Table
from relope.types import ResultWarning
from relope.words import counted

FORMAT_VERSION = 2
"""Format 1 had no warnings."""
StudyName = Literal["table1", "table2", "table3", "table4", "figure2", "figure3", "data-efficiency"]


@dataclass(frozen=True)
class StudyRequest:
    """What is asked for.

    Attributes:
        study: the table or figure.
        reports: folders of reports, or folders that hold some.
        sweeps: Parquet files of sweeps, of which ``figure3`` is made.
        methods: to show; none means all.
        bootstrap: resamples of the intervals.
        seed: of the resamples.
    """

    study: StudyName
    reports: Sequence[str] = ()
    sweeps: Sequence[str] = ()
    methods: Sequence[str] = ()
    bootstrap: int = 2000
    seed: int = 0


@dataclass(frozen=True)
class Study:
    """What a study says.

    Attributes:
        title: what it is.
        what: one sentence: what was run, on how many samples.
        shows: what the numbers can and cannot show.
        tables: the first is the main one.
        figures: SVG elements with a caption each.
        warnings: that only the study itself can know of.
    """

    title: str
    what: str
    shows: str
    tables: list[Table]
    figures: list[tuple[Markup, str]] = field(default_factory=list)
    warnings: Sequence[ResultWarning] = ()


@dataclass(frozen=True)
class StudyResult:
    """The content of ``study.json``.

    Attributes:
        reports: each that it is made of: folder, fingerprint, model, data, n, grader, date and command line.
        warnings: of those reports and of what sweeps held out, worst first.
    """

    request: StudyRequest
    study: Study
    reports: Sequence[Mapping[str, str | int | None]]
    versions: Mapping[str, str]
    warnings: Sequence[ResultWarning] = ()

    @property
    def table(self) -> Table:
        """Return the main table."""
        return self.study.tables[0]

    def to_json(self) -> dict[str, Any]:
        """Return the content of ``study.json``."""
        return {
            "format_version": FORMAT_VERSION,
            "study": self.request.study,
            "title": self.study.title,
            "what": self.study.what,
            "shows": self.study.shows,
            "warnings": [asdict(warning) for warning in self.warnings],
            "tables": [table.to_json() for table in self.study.tables],
            "resamples": self.request.bootstrap,
            "seed": self.request.seed,
            "reports": list(self.reports),
            "sweeps": list(self.request.sweeps),
            "versions": dict(self.versions),
        }


@dataclass(frozen=True)
class StudyInputs:
    """What a study is made of.

    Attributes:
        request: what was asked for.
        reports: those that it names, each with its samples.
    """

    request: StudyRequest
    reports: list[StoredReport]

    def methods(self, reports: Sequence[StoredReport] | None = None) -> list[str]:
        """Return the methods that are shown: those asked for, else all in the order of the first report.

        Raises:
            InvalidInputError: a method that was asked for is in none of the reports.
        """
        chosen = self.reports if reports is None else reports
        known = list(dict.fromkeys(name for report in chosen for name in report.scores))
        for name in self.request.methods:
            if name not in known:
                raise InvalidInputError(f"no report has the method {name} (they have: {', '.join(known)})")
        return list(self.request.methods) or known

    def described(self) -> str:
        """Return models, data sets and numbers of samples in one sentence."""
        models = sorted({report.model for report in self.reports})
        datasets = list(dict.fromkeys(report.dataset for report in self.reports))
        sizes = [report.report.n for report in self.reports]
        size = f"{min(sizes):,}" if min(sizes) == max(sizes) else f"{min(sizes):,} to {max(sizes):,}"
        said = f"{', '.join(models)} on {', '.join(datasets)}: {counted(len(sizes), 'report')} of {size} test samples."
        graders = list(dict.fromkeys(name for report in self.reports if (name := report.grader)))
        if graders:
            said += f" Judged by {' and '.join(graders)}."
        folded = dict.fromkeys(report.dataset for report in self.reports if report.out_of_fold)
        if not folded:
            return said
        return f"{said} Out of fold, by routers that did not see a question's group: {', '.join(folded)}."
