"""The step ``study``: a table or figure of the paper from several reports."""

import json
from pathlib import Path

from relope.spec import StudySpec
from relope.steps.outputs import RUNS
from relope.steps.step import Step
from relope.types import Outcome, TextTable, Watch


def output(spec: StudySpec) -> Path:
    """Return the study's folder."""
    return spec.out or RUNS / spec.study


def run(spec: StudySpec, watch: Watch) -> Outcome:
    """Put several reports together into a table or figure of the paper."""
    from relope.evaluate.studies.make import make_study

    out = output(spec)
    with watch(spec.study) as progress:
        progress(0, 1)
        found = make_study(spec, out)
        progress(1, 1)
    return Outcome(out, False, f"{found['title']}: {found['what']} → {out / 'study.html'}", found, tables(out))


def tables(out: Path) -> list[TextTable]:
    """Return the main table of a finished study."""
    main = json.loads((out / "study.json").read_text(encoding="utf-8"))["tables"][0]
    return [TextTable(main["title"], main["columns"], main["rows"])]


STEP = Step(run, output, version=1, tables=tables)
