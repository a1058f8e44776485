"""The step ``compare``: what changed between two reports."""

from pathlib import Path

from relope.spec import CompareSpec
from relope.steps.outputs import RUNS
from relope.steps.step import Step
from relope.types import Outcome, Watch


def output(spec: CompareSpec) -> Path:
    """Return where nothing is written: what changed is only told."""
    return RUNS / spec.step


def run(spec: CompareSpec, watch: Watch) -> Outcome:
    """Show what changed between two reports."""
    from relope.evaluate.compare import compare_reports

    comparison = compare_reports(spec.first, spec.second, spec.bootstrap, spec.seed)
    tables, warned = (comparison.table.text,), comparison.warnings
    return Outcome(spec.second, False, comparison.what, comparison.to_json(), tables, warnings=warned)


STEP = Step(run, output, version=1)
