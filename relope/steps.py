"""One function a step; the only file that knows every folder.

Each takes its specification and returns an ``Outcome``. Heavy libraries are imported inside, so
that asking for help costs nothing.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relope import __version__
from relope.errors import InvalidInputError, NotFoundError
from relope.spec import CompareSpec, EvaluateSpec, ExtractSpec, FitSpec, GradeSpec, PredictSpec, Spec, StudySpec
from relope.types import Progress, no_progress

if TYPE_CHECKING:
    from relope.extract.backbone import Backbone
    from relope.extract.datasets import DataSet
    from relope.probes import Examples
    from relope.store import ActivationStore

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
    from relope.extract.backbone import open_backbone
    from relope.extract.datasets import load_samples, open_dataset
    from relope.extract.loop import run_units
    from relope.extract.plan import make_plan, read_plan
    from relope.extract.recipe import check_splits, make_manifest, save_block
    from relope.store import create_or_open, plan_path

    dataset = open_dataset(spec.dataset)
    splits = check_splits(dataset, spec.split)
    with watch("read data") as progress:
        progress(0, 1)
        samples = load_samples(dataset, splits, spec.limit)
        progress(1, 1)
    backbone = open_backbone(spec.model, spec.device, spec.dtype, spec.attention)
    manifest = make_manifest(backbone, dataset, spec)
    out = spec.out or Path("runs") / f"{spec.dataset}.zarr"
    writer = create_or_open(out, manifest)
    writer.sweep()
    save_block(backbone, out, manifest.layers)
    committed = writer.committed()
    batch_size = spec.batch_size or backbone.card.batch_size
    units = make_plan(plan_path(out), samples, committed, batch_size, backbone.hidden_size)
    max_new_tokens = spec.max_new_tokens or dataset.max_new_tokens
    begun = time.perf_counter()
    with watch(f"extract {spec.model}") as progress:
        run_units(
            backbone,
            writer,
            units,
            {sample.id: sample for sample in samples},
            max_new_tokens=max_new_tokens,
            text_only=spec.text_only,
            progress=progress,
        )
    seconds = time.perf_counter() - begun
    writer.publish([writer.part_id(unit.ids) for unit in read_plan(plan_path(out))])
    graded = grade(GradeSpec(store=out, grader=spec.grader))
    n = sum(len(unit.ids) for unit in units)
    done = f"{n} samples in {seconds:.1f} s ({n / seconds:.0f}/s)" if n else f"{len(samples)} samples up to date"
    facts = {"samples": len(samples), "computed": n, "seconds": seconds, "accuracy": graded.facts["accuracy"]}
    return Outcome(out, not n, f"{done} → {out}, accuracy {graded.facts['accuracy']:.3f}", facts)


def grade(spec: GradeSpec, watch: Watch = silent) -> Outcome:
    """Judge every answer of a store into ``grades/<grader>@<version>.parquet``."""
    import polars as pl

    from relope.extract.graders import open_grader
    from relope.grades import write_grades
    from relope.store import ActivationStore

    store = ActivationStore.open(spec.store)
    name = spec.grader or store.manifest.grader
    grader = open_grader(name)
    path, table = write_grades(store, name, grader.VERSION, grader.grade)
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


def fit(spec: FitSpec, watch: Watch = silent) -> Outcome:
    """Fit a method from a store into a router folder; with folds also score the same samples out of fold."""
    from relope.examples import training_samples, training_verdicts
    from relope.probes import make
    from relope.provenance import digest
    from relope.routers import Router, read_router, router_folder, router_name, write_router

    settings = {**spec.set, **({"mode": spec.mode} if spec.mode else {})}
    probe = make(spec.method, settings)
    store, rows, correct = training_samples(spec)
    layer = pick_layer(store, spec.layer, probe.layers)
    out = spec.out or router_folder(spec.store, router_name(spec.method, spec.seed))
    known = store.samples[rows].select("id", "content").rows()
    large = large_verdicts(spec, store, rows)
    asked = spec.model_dump(mode="json", exclude={"out", "store", "also", "device", "folds", "large_store"})
    decided = [correct.tolist(), None if large is None else large.tolist()]
    fingerprint = digest([asked, layer, store.recipe_id, known, decided, __version__])
    if (old := read_router(out)) and old.fingerprint == fingerprint:
        return _with_folds(spec, out, Outcome(out, True, f"{spec.method} up to date → {out}"), watch)
    streams = open_streams(store) if settings.get("mode", "cached") != "cached" else None
    verdicts = training_verdicts(store, rows, spec.grades)
    examples = _examples(store, rows, correct, layer, streams, spec.device, verdicts, large)
    begun, bytes_before = time.perf_counter(), store.bytes_read
    with watch(f"fit {spec.method}") as progress:
        probe.fit(examples, seed=spec.seed, progress=progress)
    router = Router(
        method=spec.method,
        layer=layer,
        seed=spec.seed,
        fingerprint=fingerprint,
        recipe_id=store.recipe_id,
        n_samples=len(rows),
        seconds_fit=time.perf_counter() - begun,
        bytes_read=store.bytes_read - bytes_before,
        settings=settings,
        identity=store.manifest.identity,
    )
    write_router(out, router, probe)
    note = getattr(probe, "note", "")
    text = f"{spec.method} fitted on {len(rows)} samples in {router.seconds_fit:.1f} s{f' ({note})' if note else ''}"
    facts = {"seconds": router.seconds_fit, "samples": len(rows), "note": note}
    return _with_folds(spec, out, Outcome(out, False, f"{text} → {out}", facts), watch)


def _with_folds(spec: FitSpec, out: Path, done: Outcome, watch: Watch) -> Outcome:
    """Make out-of-fold scores too, when they are asked for."""
    if spec.folds is None:
        return done
    from relope.folds import score_out_of_fold

    path, reused = score_out_of_fold(spec, out, watch)
    text = f"{done.text}; out-of-fold scores {'up to date' if reused else 'made'} → {path}"
    return Outcome(done.path, done.reused and reused, text, {**done.facts, "scores": str(path)})


def predict(spec: PredictSpec, watch: Watch = silent) -> Outcome:
    """Score a store's samples with a router, or with a method that trains nothing."""
    from relope.evaluate.scores import ScoresMeta, read_scores, write_scores
    from relope.grades import rows_of, verdicts_of
    from relope.provenance import digest
    from relope.routers import check_recipe, open_router, scores_path
    from relope.store import ActivationStore

    store = ActivationStore.open(spec.store)
    router, probe = open_router(spec.router)
    out = spec.out or scores_path(spec.store, Path(spec.router).name if router.fingerprint else router.method)
    rows = rows_of(store, spec.split)
    ids = store.samples[rows]["id"].to_list()
    verdicts = verdicts_of(store, rows, spec.grades)
    read = verdicts.rows() if verdicts is not None and getattr(probe, "reads_verdicts", False) else None
    fingerprint = digest([router.fingerprint, store.recipe_id, store.samples[rows]["content"].to_list(), ids, read])
    if out.exists() and read_scores(out).meta.fingerprint == fingerprint:
        return Outcome(out, True, f"scores of {router.method} up to date → {out}")
    note = check_recipe(spec.router, router, store, spec.transfer)
    layer = pick_layer(store, router.layer or None, probe.layers)
    streams = open_streams(store) if router.settings.get("mode", "cached") != "cached" else None
    begun, bytes_before = time.perf_counter(), store.bytes_read
    with watch(f"predict {router.method}"):
        scores = probe.predict_proba(_examples(store, rows, None, layer, streams, spec.device, verdicts))
    meta = ScoresMeta(
        method=router.method,
        seconds_fit=router.seconds_fit if probe.trains else None,
        seconds_predict=time.perf_counter() - begun,
        recipe_id=store.recipe_id,
        content_id=store.content_id,
        router=router.fingerprint or None,
        seed=router.seed,
        needs_training=probe.trains,
        is_control=probe.control,
        fingerprint=fingerprint,
        note="; ".join(text for text in (note, getattr(probe, "note", "")) if text),
        bytes_read_fit=router.bytes_read if probe.trains else None,
        bytes_read=store.bytes_read - bytes_before,
        fitted_on=router.recipe_id or None,
    )
    write_scores(out, ids, scores, meta)
    return Outcome(out, False, f"{len(ids)} samples scored by {router.method} → {out}", {"samples": len(ids)})


def evaluate(spec: EvaluateSpec, watch: Watch = silent) -> Outcome:
    """Compare every scored method of a store and write the report."""
    from relope.evaluate.report import build_report
    from relope.reporting import finished_report, report_inputs
    from relope.results import terminal_table

    out = spec.out or Path(f"{spec.store}.report")
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
    from relope.evaluate.studies import make_study
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
    from relope.probes import method_class
    from relope.routers import scores_path

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
    "grade": grade,
    "fit": fit,
    "predict": predict,
    "evaluate": evaluate,
    "study": study,
    "compare": compare,
}


def run_step(name: str, spec: Spec, watch: Watch = silent) -> Outcome:
    """Run a step by name."""
    return STEPS[name](spec, watch)


def pick_layer(store: "ActivationStore", asked: int | None, needs: Callable[[int], Sequence[int]]) -> int:
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


def large_verdicts(spec: FitSpec, store: "ActivationStore", rows: Any) -> Any:
    """Return whether the large model is right on each row ``[N] bool``; None when it was not asked for.

    Raises:
        InvalidInputError: the method reads no large store, or that store lacks some of the samples.
    """
    from relope.grades import correct_of
    from relope.probes import method_class
    from relope.store import ActivationStore

    if spec.large_store is None:
        return None
    if not getattr(method_class(spec.method), "reads_large", False):
        raise InvalidInputError(f"{spec.method} reads no large store; drop --large-store, or fit routellm-sw")
    return correct_of(ActivationStore.open(spec.large_store), store.samples[rows]["id"].to_list())


def _examples(
    store: "ActivationStore",
    rows: Any,
    correct: Any,
    layer: int,
    streams: Any,
    device: str,
    verdicts: Any = None,
    large_correct: Any = None,
) -> "Examples":
    from relope.probes import Examples

    place = "cpu"
    if device != "cpu":
        from relope.extract.backbone import pick_device

        place = str(pick_device(device))
    return Examples(store, rows, correct, layer, streams, place, verdicts, large_correct)


def open_streams(store: "ActivationStore") -> Any:
    """Open the backbone and the data that a store was made from, to stream samples through it."""
    from relope.extract.backbone import open_backbone
    from relope.extract.streams import Streams

    identity, recorded = store.manifest.identity, store.manifest.recorded
    backbone: Backbone = open_backbone(recorded["model"], "auto", identity["compute_dtype"], identity["attention"])
    dataset = recorded_dataset(store)
    splits = store.samples["split"].unique().to_list()
    samples = {sample.id: sample for split in splits for sample in dataset.load(split, None)}
    return Streams(backbone, samples, identity["text_only"])


def recorded_dataset(store: "ActivationStore") -> "DataSet":
    """Return the data set that a store was made from."""
    from relope.extract.datasets import open_dataset

    return open_dataset(store.manifest.recorded["dataset"])
