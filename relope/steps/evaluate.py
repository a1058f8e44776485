"""The step ``evaluate``: every scored method of a store compared, in a report."""

from collections.abc import Sequence
from pathlib import Path

from relope import registry
from relope.evaluate.report import build_report, finished_report, read_report, terminal_table
from relope.probes.protocol import method_class
from relope.spec import EvaluateSpec, PredictSpec
from relope.steps import predict
from relope.steps.evaluation import evaluation_of
from relope.steps.outcomes import Evaluated
from relope.steps.outputs import report_folder, scores_path
from relope.steps.report_inputs import VERSION, report_inputs
from relope.steps.step import Step
from relope.types import ResultWarning, TextTable, Watch


def output(spec: EvaluateSpec) -> Path:
    """Return the report's folder."""
    return spec.out or report_folder(spec.store)


def reads(spec: EvaluateSpec) -> list[Path]:
    """Return the folder of the scores, where none is named."""
    return [] if spec.scores else [scores_path(spec.store, "x").parent]


def run(spec: EvaluateSpec, watch: Watch) -> Evaluated:
    """Compare every scored method of a store and write the report."""
    out = output(spec)
    _score_untrained(spec, watch)
    inputs = report_inputs(evaluation_of(spec))
    report = finished_report(out, inputs.provenance["fingerprint"])
    reused = report is not None
    if report is None:
        with watch("evaluate") as progress:
            progress(0, 1)
            report = build_report(inputs, out)
            progress(1, 1)
    state = f"{'up to date ' if reused else ''}on {report.n} samples judged by {inputs.provenance['grader']}"
    text = f"{len(report.methods)} methods {state} → {out / 'report.html'}"
    return Evaluated(out, reused, text, report.to_json(), tables(out), warnings=report.warnings)


def tables(out: Path) -> list[TextTable]:
    """Return the table of a finished report."""
    return [terminal_table(read_report(out)).text]


def warnings(out: Path) -> Sequence[ResultWarning]:
    """Return the warnings of a finished report."""
    return read_report(out).warnings


def _score_untrained(spec: EvaluateSpec, watch: Watch) -> None:
    """Score the methods that are asked for by name, train nothing and have no scores yet."""
    for name in spec.methods:
        known = name in registry.names("methods") and not method_class(name).traits.trains
        if known and not scores_path(spec.store, name).exists():
            asked = PredictSpec(
                router=name,
                store=spec.store,
                out=None,
                split=spec.split,
                grades=spec.grades,
                device="cpu",
                transfer=False,
            )
            predict.STEP.run(asked, watch)


STEP = Step(run, output, version=VERSION, reads=reads, tables=tables, warnings=warnings)
