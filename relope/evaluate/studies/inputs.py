"""What a study is made of and what it found."""

from dataclasses import dataclass, field

from relope.errors import InvalidInputError
from relope.evaluate.numbers.persample import Evaluated
from relope.evaluate.pages.export import Table
from relope.spec import StudySpec


@dataclass(frozen=True)
class Study:
    """What a study found.

    Attributes:
        title: what it is.
        what: one sentence: what was run, on how many samples.
        shows: what the numbers can and cannot show.
        tables: the first is the main one.
        figures: SVG elements with a caption each.
    """

    title: str
    what: str
    shows: str
    tables: list[Table]
    figures: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class StudyInputs:
    """What a study is made of.

    Attributes:
        spec: what was asked for.
        reports: those found, each with its samples.
    """

    spec: StudySpec
    reports: list[Evaluated]

    def methods(self, reports: list[Evaluated] | None = None) -> list[str]:
        """Return the methods that are shown: those asked for, else all in the order of the first report.

        Raises:
            InvalidInputError: a method that was asked for is in none of the reports.
        """
        chosen = self.reports if reports is None else reports
        there = list(dict.fromkeys(name for one in chosen for name in one.scores))
        for name in self.spec.methods:
            if name not in there:
                raise InvalidInputError(f"no report has the method {name} (there is: {', '.join(there)})")
        return list(self.spec.methods) or there

    def described(self) -> str:
        """Return models, data sets and numbers of samples in one sentence."""
        models = sorted({one.model for one in self.reports})
        datasets = list(dict.fromkeys(one.dataset for one in self.reports))
        sizes = [len(one.correct) for one in self.reports]
        size = f"{min(sizes):,}" if min(sizes) == max(sizes) else f"{min(sizes):,} to {max(sizes):,}"
        plural = "s" if len(sizes) > 1 else ""
        said = f"{', '.join(models)} on {', '.join(datasets)}: {len(sizes)} report{plural} of {size} test samples."
        folded = dict.fromkeys(one.dataset for one in self.reports if one.report["provenance"].get("out_of_fold"))
        if not folded:
            return said
        return f"{said} Out of fold, by routers that did not see a question's group: {', '.join(folded)}."
