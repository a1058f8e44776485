"""One function a step; the only file that knows every folder.

Each takes its specification and returns an ``Outcome``. Heavy libraries are imported inside, so
that asking for help costs nothing.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relope.errors import InvalidInputError, NotFoundError
from relope.places import outputs_beside
from relope.spec import (
    CaptionSpec,
    CompareSpec,
    EvaluateSpec,
    ExplainSpec,
    ExportSpec,
    ExtractSpec,
    FitSpec,
    GradeSpec,
    PlanSpec,
    PredictSpec,
    Spec,
    StudySpec,
    SweepSpec,
)
from relope.types import Progress, no_progress

if TYPE_CHECKING:
    from relope.extract.data.dataset import DataSet
    from relope.extract.model.backbone import Backbone
    from relope.extract.recheck import Recheck
    from relope.probes.protocol import Examples
    from relope.store import RowReader

Watch = Callable[[str], AbstractContextManager[Progress]]
"""label → a context that gives a progress callback; the command line passes its bars."""


@dataclass(frozen=True)
class Outcome:
    """What a step did.

    Attributes:
        path: what it wrote, or found up to date.
        reused: True when nothing had to be done.
        text: one line for a person.
        facts: the same and more, as JSON values.
    """

    path: Path
    reused: bool
    text: str
    facts: dict[str, Any] = field(default_factory=dict)


def silent(label: str) -> AbstractContextManager[Progress]:
    """Watch nothing."""
    return nullcontext(no_progress)


def extract(spec: ExtractSpec, watch: Watch = silent) -> Outcome:
    """Run a model once over a data set into a store, then grade its answers."""
    from relope.extracting import extract_store

    return extract_store(spec, watch)


def plan(spec: PlanSpec, watch: Watch = silent) -> Outcome:
    """Say what an extraction will cost on disk; the model's weights are not needed."""
    from relope.extracting import plan_store

    return plan_store(spec, watch)


def caption(spec: CaptionSpec, watch: Watch = silent) -> Outcome:
    """Describe a data set's pictures in words, one line a picture."""
    from relope.extract.captioning import caption_file, write_captions
    from relope.extract.data.dataset import open_dataset

    dataset = open_dataset(spec.dataset)
    out = caption_file(dataset, spec)
    with watch(f"caption {dataset.name}") as progress:
        facts = write_captions(dataset, spec, progress)
    n, skipped = facts["pictures"] - len(facts["skipped"]), facts["skipped"]
    why = f"; {len(skipped)} skipped ({next(iter(skipped.values()))})" if skipped else ""
    return Outcome(out, not n, f"{n} pictures described, {facts['known']} were already{why} → {out}", facts)


def compare_with_model(path: Path, n_samples: int) -> "Recheck":
    """Run samples of a store through its model again and compare the states."""
    from relope.extract.recheck import recheck
    from relope.store import ActivationStore

    with ActivationStore.open(path) as store:
        return recheck(store, open_streams(store), n_samples)


def grade(spec: GradeSpec, watch: Watch = silent) -> Outcome:
    """Judge every answer of a store into ``grades/<grader>@<version>.parquet``, or those of a file."""
    import polars as pl

    from relope.extract.grading.grader import open_grader
    from relope.store import ActivationStore
    from relope.store.grades import write_grades

    if spec.responses is not None and spec.store is None:
        return _grade_responses(spec.responses, spec.grader or "auto")
    if spec.store is None or spec.responses is not None:
        raise InvalidInputError("grade takes either --store STORE or --responses FILE.jsonl")
    store = ActivationStore.open(spec.store)
    if store.manifest.identity.get("generation", {}).get("max_new_tokens") == 0:
        raise InvalidInputError(
            f"{spec.store} holds states only (--max-new-tokens 0): there is no answer to judge; "
            "extract with answers into a new --out"
        )
    name = spec.grader or store.manifest.grader
    grader = open_grader(name)
    path, table = write_grades(store, name, grader.VERSION, grader.grade)
    store.save(f"grades/{path.name}")
    means = table.group_by("split").agg(pl.col("correct").mean()).sort("split")
    accuracy = table.select(pl.col("correct").mean()).item()
    facts = {
        "samples": len(table),
        "accuracy": accuracy,
        "unparsed": int((table["parse_status"] == "unparsed").sum()),
        "by_split": dict(zip(means["split"], means["correct"], strict=True)),
    }
    text = f"{len(table)} answers judged by {name}: accuracy {facts['accuracy']:.3f}, {facts['unparsed']} unparsed"
    return Outcome(path, False, f"{text} → {path}", facts)


def _grade_responses(path: Path, name: str) -> Outcome:
    from relope.extract.grading.grader import open_grader
    from relope.extract.responses import grade_file

    verdicts = grade_file(path, open_grader(name))
    right = sum(verdict["correct"] for verdict in verdicts)
    text = f"{len(verdicts)} answers of {path} judged by {name}: {right} right"
    return Outcome(path, False, text, {"verdicts": verdicts})


def fit(spec: FitSpec, watch: Watch = silent) -> Outcome:
    """Fit a method from a store into a router folder; with folds score the same samples out of fold instead."""
    if spec.folds is not None:
        from relope.folds import score_out_of_fold

        return score_out_of_fold(spec, spec.folds, watch)
    from relope.fitting import fit_router

    return fit_router(spec, watch)


def predict(spec: PredictSpec, watch: Watch = silent) -> Outcome:
    """Score a store's samples with a router, or with a method that trains nothing."""
    from relope.predicting import score_samples

    return score_samples(spec, watch)


def sweep(spec: SweepSpec, watch: Watch = silent) -> Outcome:
    """Fit every combination of a grid and select one on inner validation."""
    from relope.fits import check_launch, ensure_block
    from relope.probes.protocol import make
    from relope.store.grades import apart, labelled, verdicts_of
    from relope.sweeps import SharedStore, data_digest, planned, shown, summarised
    from relope.sweeps import sweep as run_sweep

    check_launch(streamed=False)
    store = SharedStore.open(spec.store)
    runs = planned(spec, max(store.layers) if spec.layer is None else spec.layer)
    rows, correct = labelled(store, spec.split, spec.grades)
    kept = apart(store, rows)
    rows, correct = rows[kept], correct[kept]
    known = store.samples[rows].select("id", "content").rows()
    for run in runs:
        pick_layer(store, run.layer, make(spec.method, run.settings).layers)
    for run in runs:
        ensure_block(store, make(spec.method, run.settings), run.layer)
    streamed = any(run.settings.get("mode", "cached") != "cached" for run in runs)
    streams = open_streams(store, spec.device) if streamed else None
    verdicts = verdicts_of(store, rows, spec.grades)
    first = examples_of(store, rows, correct, runs[0].layer, streams, spec.device, verdicts)
    path = spec.out or Path(f"{outputs_beside(spec.store)}.sweeps") / f"{spec.method}.parquet"
    with watch(f"sweep {spec.method}") as progress:
        data = data_digest(store, known, correct)
        examples = [replace(first, layer=run.layer) for run in runs]
        table, computed = run_sweep(spec.method, runs, examples, path, data, progress)
    text, facts = shown(spec, summarised(runs, table), len(runs), computed, path)
    return Outcome(path, not computed, text, facts)


def explain(spec: ExplainSpec, watch: Watch = silent) -> Outcome:
    """Draw which tokens of a sample a router looks at."""
    from relope.explaining import explained

    return Outcome(*explained(spec))


def export(spec: ExportSpec, watch: Watch = silent) -> Outcome:
    """Write a relope router as a PEFT adapter folder."""
    from relope.probes.router import open_router

    router, probe = open_router(str(spec.folder))
    if not hasattr(probe, "export"):
        raise InvalidInputError(f"{spec.folder} holds a router of {router.method}, which has no adapter; export relope")
    n = probe.export(spec.out)
    return Outcome(spec.out, False, f"adapter of {n} tensors, and its head → {spec.out}", {"tensors": n})


def evaluate(spec: EvaluateSpec, watch: Watch = silent) -> Outcome:
    """Compare every scored method of a store and write the report."""
    from relope.evaluate.report import build_report
    from relope.reporting import finished_report, report_inputs
    from relope.results import terminal_table

    out = spec.out or Path(f"{outputs_beside(spec.store)}.report")
    _score_untrained(spec, watch)
    inputs = report_inputs(spec)
    report = finished_report(out, inputs)
    reused = report is not None
    if report is None:
        with watch("evaluate") as progress:
            progress(0, 1)
            report = build_report(inputs, out)
            progress(1, 1)
    state = "up to date" if reused else f"on {report['n']} samples"
    text = f"{len(report['methods'])} methods {state} → {out / 'report.html'}"
    return Outcome(out, reused, text, {"report": report, "table": terminal_table(report)})


def study(spec: StudySpec, watch: Watch = silent) -> Outcome:
    """Put several reports together into a table or figure of the paper."""
    from relope.evaluate.studies.make import make_study
    from relope.results import terminal_table

    out = spec.out or Path("runs") / spec.study
    with watch(spec.study) as progress:
        progress(0, 1)
        found = make_study(spec, out)
        progress(1, 1)
    facts = {"report": found, "table": terminal_table(found)}
    return Outcome(out, False, f"{found['title']}: {found['what']} → {out / 'study.html'}", facts)


def compare(spec: CompareSpec, watch: Watch = silent) -> Outcome:
    """Show what changed between two reports."""
    from relope.evaluate.compare import compare_reports

    found = compare_reports(spec.first, spec.second, spec.bootstrap, spec.seed)
    table = (found["title"], found["columns"], found["rows"])
    return Outcome(spec.second, False, found["what"], {"report": found, "table": table})


def _score_untrained(spec: EvaluateSpec, watch: Watch) -> None:
    """Score the methods that are asked for by name, train nothing and have no scores yet."""
    from relope import registry
    from relope.probes.protocol import method_class
    from relope.probes.router import scores_path

    for name in spec.methods:
        known = name in registry.names("methods") and not method_class(name).trains
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
            predict(asked, watch)


STEPS: dict[str, Callable[..., Outcome]] = {
    "extract": extract,
    "plan": plan,
    "caption": caption,
    "grade": grade,
    "fit": fit,
    "sweep": sweep,
    "predict": predict,
    "explain": explain,
    "export": export,
    "evaluate": evaluate,
    "study": study,
    "compare": compare,
}


def run_step(name: str, spec: Spec, watch: Watch = silent) -> Outcome:
    """Run a step by name."""
    return STEPS[name](spec, watch)


def pick_layer(store: "RowReader", asked: int | None, needs: Callable[[int], Sequence[int]]) -> int:
    """Return the block l that is read: what was asked, else the store's deepest.

    Raises:
        NotFoundError: the store lacks a layer that the method needs there.
    """
    layer = asked or max(store.layers)
    for needed in needs(layer):
        if needed not in store.layers:
            has = ", ".join(str(number) for number in store.layers)
            wanted = ",".join(str(number) for number in needs(layer))
            raise NotFoundError(
                f"layer {needed} is not in {store.path} (has {has}); "
                f"extract again with --layers {wanted} into a new --out"
            )
    return layer


def examples_of(
    store: "RowReader",
    rows: Any,
    correct: Any,
    layer: int,
    streams: Any,
    device: str,
    verdicts: Any = None,
    large_correct: Any = None,
) -> "Examples":
    from relope.fits import device_here
    from relope.probes.protocol import Examples

    return Examples(store, rows, correct, layer, streams, device_here(device), verdicts, large_correct)


def open_streams(store: "RowReader", device: str = "auto") -> Any:
    """Open the backbone and the data that a store was made from, to stream samples through it."""
    from relope.extract.intake import load_for
    from relope.extract.model.backbone import open_backbone
    from relope.extract.model.card import recorded_model
    from relope.extract.model.streams import Streams

    identity, recorded = store.manifest.identity, store.manifest.recorded
    backbone: Backbone = open_backbone(
        recorded_model(recorded), device, identity["compute_dtype"], identity["attention"],
        spread=recorded.get("device") == "all", quantize=identity.get("quantize"),
    )  # fmt: skip
    splits = store.samples["split"].unique().to_list()
    samples = {sample.id: sample for sample in load_for(recorded, recorded_dataset(store), splits)}
    return Streams(backbone, samples, identity["text_only"])


def recorded_dataset(store: "RowReader") -> "DataSet":
    """Return the data set that a store was made from."""
    from relope.extract.data.dataset import open_dataset

    recorded = store.manifest.recorded
    return open_dataset(recorded.get("dataset_source", recorded["dataset"]))
