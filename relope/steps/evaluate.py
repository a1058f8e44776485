"""The step ``evaluate``: every scored method of a store compared, in a report."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from relope import registry
from relope.evaluate.report import Report, build_report, finished_report, read_report, terminal_tables
from relope.probes.protocol import make, method_class
from relope.spec import EvaluateSpec, build
from relope.steps.evaluation import evaluation_of
from relope.steps.outcomes import Evaluated
from relope.steps.outputs import report_folder, scores_path
from relope.steps.report_inputs import VERSION, report_inputs
from relope.steps.step import Step
from relope.steps.step import run as run_step
from relope.steps.tracking import Tell, check_tracker, run_name, tracked
from relope.types import ResultWarning, TextTable, Watch
from relope.words import counted


def output(spec: EvaluateSpec) -> Path:
    """Return the report's folder."""
    return spec.out or report_folder(spec.store)


def reads(spec: EvaluateSpec) -> list[Path]:
    """Return the folder of the scores, where none is named."""
    return [] if spec.scores else [scores_path(spec.store, "x").parent]


def run(spec: EvaluateSpec, watch: Watch) -> Evaluated:
    """Compare every scored method of a store and write the report."""
    out = output(spec)
    check(spec)
    _make_ready(spec, watch)
    inputs = report_inputs(evaluation_of(spec))
    report = finished_report(out, inputs.provenance["fingerprint"])
    reused = report is not None
    if report is None:
        with watch("evaluate") as progress:
            progress(0, 1)
            report = build_report(inputs, out)
            progress(1, 1)
    with tracked(spec, run_name("evaluate", spec.store)) as tell:
        _tell(tell, report)
    state = f"{'up to date ' if reused else ''}on {counted(report.n, 'sample')} judged by {inputs.provenance['grader']}"
    text = f"{counted(len(report.methods), 'method')} {state} → {out / 'report.html'}"
    return Evaluated(out, reused, text, report.to_json(), tables(out), warnings=report.warnings)


def tables(out: Path) -> list[TextTable]:
    """Return the table of a finished report."""
    return [table.text for table in terminal_tables(read_report(out))]


def warnings(out: Path) -> Sequence[ResultWarning]:
    """Return the warnings of a finished report."""
    return read_report(out).warnings


def check(spec: EvaluateSpec) -> None:
    """Refuse methods to fit that there are none of, and a tracker that is not installed."""
    check_tracker(spec)
    for name in spec.fit:
        make(name, {})


def _tell(tell: Tell, report: Report) -> None:
    """Tell a tracker the AUC of every method with its interval, and on how many samples."""
    tell({"samples": report.n, "samples_right": report.n_correct, "image_groups": report.n_groups})
    for row in report.methods:
        low, high = row.ci95 or (None, None)
        tell({f"auc/{row.method}": row.auc, f"auc_low/{row.method}": low, f"auc_high/{row.method}": high})


def _make_ready(spec: EvaluateSpec, watch: Watch) -> None:
    """Fit and score what is to be fitted, and score what is asked for by name and trains nothing, unless it is done."""
    untrained = [name for name in spec.methods if name in registry.names("methods") and not _trains(name)]
    for name in dict.fromkeys((*spec.fit, *untrained)):
        asked: dict[str, Any] = {"store": spec.store, "grades": spec.grades}
        router = name
        if _trains(name):
            reads = spec.large_store and method_class(name).traits.reads_large
            large = {"large_store": spec.large_store[0]} if reads else {}
            router = str(run_step(build("fit", {**asked, **large, "method": name}), watch).path)
        out = None if spec.scores is None else spec.scores / f"{name}.parquet"
        if name in spec.fit or not (out or scores_path(spec.store, name)).exists():
            run_step(build("predict", {**asked, "router": router, "out": out, "split": spec.split}), watch)


def _trains(name: str) -> bool:
    return method_class(name).traits.trains


def _plugins(spec: EvaluateSpec) -> list[tuple[str, str]]:
    return [("methods", name) for name in spec.fit]


STEP = Step(run, output, version=VERSION, check=check, reads=reads, tables=tables, warnings=warnings, plugins=_plugins)
