"""The paper's tables and figures, put together from several reports."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from relope.errors import InvalidInputError
from relope.evaluate.export import Table, write_tables
from relope.evaluate.persample import Evaluated, find_reports
from relope.evaluate.wording import Json
from relope.provenance import versions, write_bytes, write_json
from relope.spec import StudySpec

FORMAT_VERSION = 1


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


def make_study(spec: StudySpec, out: Path) -> Json:
    """Write ``study.html``, tables and last ``study.json`` into a folder; return the latter.

    Raises:
        NotFoundError: a folder holds no report, a file does not exist.
        InvalidInputError: the reports do not fit the study.
    """
    from relope.evaluate.study_page import render_study

    makers = _makers()
    if spec.study == "figure3":
        if not spec.sweeps:
            raise InvalidInputError("figure3 needs --sweeps: Parquet files that `relope sweep` wrote")
        inputs = StudyInputs(spec, [])
    else:
        if not spec.reports:
            raise InvalidInputError(f"{spec.study} needs --reports: folders that `relope evaluate` wrote")
        inputs = StudyInputs(spec, find_reports(spec.reports))
    found = makers[spec.study](inputs)
    result = {
        "format_version": FORMAT_VERSION,
        "study": spec.study,
        "title": found.title,
        "what": found.what,
        "shows": found.shows,
        "tables": [table.to_json() for table in found.tables],
        "resamples": spec.bootstrap,
        "seed": spec.seed,
        "reports": [
            {"folder": str(one.path), "fingerprint": one.report["provenance"].get("fingerprint")}
            for one in inputs.reports
        ],
        "sweeps": list(spec.sweeps),
        "versions": versions(),
    }
    write_tables(out, found.tables)
    write_bytes(out / "study.html", render_study(found, result).encode())
    write_json(out / "study.json", result)
    return result


def _makers() -> dict[str, Callable[[StudyInputs], Study]]:
    from relope.evaluate import study_ablation, study_curves, study_tables

    return {
        "table1": study_tables.table1,
        "table2": study_tables.table2,
        "table3": study_tables.table3,
        "table4": study_tables.table4,
        "figure2": study_curves.figure2,
        "figure3": study_ablation.figure3,
        "data-efficiency": study_curves.data_efficiency,
    }
