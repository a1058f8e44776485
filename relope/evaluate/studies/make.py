"""The paper's tables and figures, put together from several reports."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from relope.errors import InvalidInputError
from relope.evaluate.numbers.bootstrap import MANY
from relope.evaluate.numbers.estimates import RESAMPLED_FROM
from relope.evaluate.numbers.likeness import unlike
from relope.evaluate.numbers.persample import StoredReport, find_reports
from relope.evaluate.pages.export import write_tables
from relope.evaluate.pages.render import render
from relope.evaluate.pages.table import Table
from relope.evaluate.pages.wording import plain
from relope.evaluate.studies import ablation, conditions, curves, robustness, tables
from relope.evaluate.studies.inputs import Study, StudyInputs, StudyName, StudyRequest, StudyResult
from relope.provenance import versions, write_bytes, write_json
from relope.types import ResultWarning, worst_first

STUDY = "study.json"
INTERVALS = (
    "95 % percentiles of {resamples:,} bootstrap resamples of whole image groups; score intervals in closed form "
    f"below {RESAMPLED_FROM} groups with the rarer of right and wrong answers and above {MANY:,} samples"
)


def make_study(request: StudyRequest, out: Path) -> StudyResult:
    """Write ``study.html``, tables and last ``study.json`` into a folder.

    Raises:
        NotFoundError: a folder holds no report, a file does not exist.
        InvalidInputError: the reports do not fit the study.
    """
    inputs = _inputs(request)
    study = MAKERS[request.study](inputs)
    reports = list(map(_origin, inputs.reports))
    of_reports = (each for report in inputs.reports for each in report.warnings)
    warned = worst_first((*unlike(inputs.reports), *study.warnings, *of_reports))
    result = StudyResult(request, study, reports, versions(), warned)
    write_tables(out, study.tables)
    write_bytes(out / "study.html", render_study(result).encode())
    write_json(out / STUDY, result.to_json())
    return result


def _origin(stored: StoredReport) -> dict[str, str | int | None]:
    """Return where a report's numbers come from: folder, what was asked of whom, n, grader, date, command line."""
    told = stored.report.provenance
    known = {key: told.get(key) for key in ("fingerprint", "grader", "date", "command")}
    return {
        "folder": str(stored.path),
        "model": stored.model,
        "data": stored.report.dataset,
        "n": stored.report.n,
        **known,
    }


def _sources(reports: Sequence[Mapping[str, str | int | None]]) -> Iterator[tuple[str, str]]:
    """Yield what a page says of each report."""
    for report in reports:
        parts = [f"{report['model']} on {report['data']}", f"n = {report['n']:,}"]
        parts += [f"by {report['grader']}"] if report["grader"] else []
        parts += [f"made {report['date']}"] if report["date"] else []
        parts += [str(report["command"])] if report["command"] else []
        yield str(report["folder"]), "; ".join(parts)


def read_table(folder: Path) -> Table:
    """Return the main table of the study in a folder; its cells are text alone.

    Raises:
        InvalidInputError: it holds none, or one that is damaged.
    """
    try:
        return Table.from_json(json.loads((folder / STUDY).read_text(encoding="utf-8"))["tables"][0])
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise InvalidInputError(f"{folder / STUDY} cannot be read ({error})", hint="make the study again") from error


def read_warnings(folder: Path) -> tuple[ResultWarning, ...]:
    """Return the warnings of the study in a folder; those of format 1 have none.

    Raises:
        InvalidInputError: it holds none, or one that is damaged.
    """
    try:
        given = json.loads((folder / STUDY).read_text(encoding="utf-8")).get("warnings", ())
        return tuple(ResultWarning(**warning) for warning in given)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise InvalidInputError(f"{folder / STUDY} cannot be read ({error})", hint="make the study again") from error


def _inputs(request: StudyRequest) -> StudyInputs:
    if request.study == "figure3":
        if not request.sweeps:
            raise InvalidInputError(
                "figure3 is made of sweeps, and none was given",
                hint="give --sweeps, the files that `relope sweep` wrote",
            )
        return StudyInputs(request, [])
    if not request.reports:
        raise InvalidInputError(
            f"{request.study} is made of reports, and none was given",
            hint="give --reports, the folders that `relope evaluate` wrote",
        )
    return StudyInputs(request, find_reports(request.reports))


def render_study(result: StudyResult) -> str:
    """Return the page: what was run and what it shows first, how it was computed last."""
    request, study = result.request, result.study
    how = [
        ("intervals", INTERVALS.format(resamples=request.bootstrap)),
        ("seed", str(request.seed)),
        *([("sweeps", plain(list(request.sweeps)))] if request.sweeps else []),
        *_sources(result.reports),
        ("versions", plain(result.versions)),
    ]
    return render("study.html.j2", title=study.title, study=study, warnings=result.warnings, how=how)


MAKERS: dict[StudyName, Callable[[StudyInputs], Study]] = {
    "table1": conditions.table1,
    "table2": tables.table2,
    "table3": robustness.table3,
    "table4": tables.table4,
    "figure2": curves.figure2,
    "figure3": ablation.figure3,
    "data-efficiency": curves.data_efficiency,
}
