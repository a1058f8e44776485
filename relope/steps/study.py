"""The step ``study``: a table or figure of the paper from several reports."""

from collections.abc import Sequence
from pathlib import Path

from relope.spec import StudySpec
from relope.steps.outputs import RUNS
from relope.steps.step import Step
from relope.types import Outcome, ResultWarning, TextTable, Watch


def output(spec: StudySpec) -> Path:
    """Return the study's folder."""
    return spec.out or RUNS / spec.study


def run(spec: StudySpec, watch: Watch) -> Outcome:
    """Put several reports together into a table or figure of the paper."""
    from relope.evaluate.studies.inputs import StudyRequest
    from relope.evaluate.studies.make import make_study

    out = output(spec)
    request = StudyRequest(spec.study, spec.reports, spec.sweeps, spec.methods, spec.bootstrap, spec.seed)
    with watch(spec.study) as progress:
        progress(0, 1)
        result = make_study(request, out)
        progress(1, 1)
    text = f"{result.study.title}: {result.study.what} → {out / 'study.html'}"
    return Outcome(out, False, text, result.to_json(), [result.table.text], warnings=result.warnings)


def tables(out: Path) -> list[TextTable]:
    """Return the main table of a finished study."""
    from relope.evaluate.studies.make import read_table

    return [read_table(out).text]


def warnings(out: Path) -> Sequence[ResultWarning]:
    """Return the warnings of a finished study."""
    from relope.evaluate.studies.make import read_warnings

    return read_warnings(out)


STEP = Step(run, output, version=1, tables=tables, warnings=warnings)
