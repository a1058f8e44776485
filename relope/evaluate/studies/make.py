"""The paper's tables and figures, put together from several reports."""

from collections.abc import Callable
from pathlib import Path

from relope.errors import InvalidInputError
from relope.evaluate.numbers.persample import find_reports
from relope.evaluate.pages.export import write_tables
from relope.evaluate.pages.wording import Json
from relope.evaluate.studies import ablation, curves
from relope.evaluate.studies import tables as study_tables
from relope.evaluate.studies.inputs import Study, StudyInputs
from relope.evaluate.studies.page import render_study
from relope.provenance import versions, write_bytes, write_json
from relope.spec import StudySpec

FORMAT_VERSION = 1


def make_study(spec: StudySpec, out: Path) -> Json:
    """Write ``study.html``, tables and last ``study.json`` into a folder; return the latter.

    Raises:
        NotFoundError: a folder holds no report, a file does not exist.
        InvalidInputError: the reports do not fit the study.
    """
    if spec.study == "figure3":
        if not spec.sweeps:
            raise InvalidInputError("figure3 needs --sweeps: Parquet files that `relope sweep` wrote")
        inputs = StudyInputs(spec, [])
    else:
        if not spec.reports:
            raise InvalidInputError(f"{spec.study} needs --reports: folders that `relope evaluate` wrote")
        inputs = StudyInputs(spec, find_reports(spec.reports))
    found = MAKERS[spec.study](inputs)
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


MAKERS: dict[str, Callable[[StudyInputs], Study]] = {
    "table1": study_tables.table1,
    "table2": study_tables.table2,
    "table3": study_tables.table3,
    "table4": study_tables.table4,
    "figure2": curves.figure2,
    "figure3": ablation.figure3,
    "data-efficiency": curves.data_efficiency,
}
