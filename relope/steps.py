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
from relope.places import outputs_beside
from relope.spec import EvaluateSpec, ExtractSpec, FitSpec, GradeSpec, PredictSpec, Spec
from relope.types import Progress, no_progress

if TYPE_CHECKING:
    from relope.extract.backbone import Backbone
    from relope.extract.datasets import DataSet
    from relope.probes import Examples
    from relope.store import ActivationStore, StoreWriter
    from relope.types import Sample

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
    writer = create_or_open(out, manifest, codec=spec.codec)
    writer.sweep()
    save_block(backbone, out, manifest.layers)
    reused = _reuse(spec, writer, samples, watch)
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
    graded = grade(GradeSpec(store=str(out), grader=spec.grader))
    n = sum(len(unit.ids) for unit in units)
    done = f"{n} samples in {seconds:.1f} s ({n / seconds:.0f}/s)" if n else f"{len(samples)} samples up to date"
    if spec.reuse:
        done = f"{reused} samples taken from {spec.reuse}; {done}"
    facts = {
        "samples": len(samples),
        "computed": n,
        "reused": reused,
        "seconds": seconds,
        "accuracy": graded.facts["accuracy"],
    }
    return Outcome(out, not n, f"{done} → {out}, accuracy {graded.facts['accuracy']:.3f}", facts)


def _reuse(spec: ExtractSpec, writer: "StoreWriter", samples: "Sequence[Sample]", watch: Watch) -> int:
    """Take what a teammate computed already; return the number of samples."""
    if not spec.reuse:
        return 0
    from relope.store.pull import reuse

    with watch("reuse (MiB)") as progress:
        return reuse(spec.reuse, writer, [sample.id for sample in samples], progress).n_samples


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


def fit(spec: FitSpec, watch: Watch = silent) -> Outcome:
    """Fit a method from a store into a router folder."""
    from relope.grades import labelled
    from relope.probes import make
    from relope.provenance import digest
    from relope.routers import Router, read_router, router_folder, write_router
    from relope.store import ActivationStore

    settings = {**spec.set, **({"mode": spec.mode} if spec.mode else {})}
    probe = make(spec.method, settings)
    store = ActivationStore.open(spec.store)
    rows, correct = labelled(store, spec.split, spec.grades)
    layer = pick_layer(store, spec.layer, probe.layers)
    out = spec.out or router_folder(spec.store, spec.method)
    known = store.samples[rows].select("id", "content").rows()
    asked = spec.model_dump(mode="json", exclude={"out", "store", "device"})
    fingerprint = digest([asked, layer, store.recipe_id, known, correct.tolist(), __version__])
    if (old := read_router(out)) and old.fingerprint == fingerprint:
        return Outcome(out, True, f"{spec.method} up to date → {out}", {"seconds": old.seconds_fit})
    streams = open_streams(store) if settings.get("mode", "cached") != "cached" else None
    examples = _examples(store, rows, correct, layer, streams, spec.device)
    begun = time.perf_counter()
    with watch(f"fit {spec.method}") as progress:
        probe.fit(examples, seed=spec.seed, progress=progress)
    seconds = time.perf_counter() - begun
    router = Router(spec.method, layer, spec.seed, fingerprint, store.recipe_id, len(rows), seconds, settings)
    write_router(out, router, probe)
    text = f"{spec.method} fitted on {len(rows)} samples in {seconds:.1f} s → {out}"
    return Outcome(out, False, text, {"seconds": seconds, "samples": len(rows)})


def predict(spec: PredictSpec, watch: Watch = silent) -> Outcome:
    """Score a store's samples with a router, or with a method that trains nothing."""
    from relope.evaluate.scores import ScoresMeta, read_scores, write_scores
    from relope.grades import rows_of
    from relope.provenance import digest
    from relope.routers import open_router, scores_path
    from relope.store import ActivationStore

    store = ActivationStore.open(spec.store)
    router, probe = open_router(spec.router)
    out = spec.out or scores_path(spec.store, router.method)
    rows = rows_of(store, spec.split)
    ids = store.samples[rows]["id"].to_list()
    fingerprint = digest([router.fingerprint, store.recipe_id, store.samples[rows]["content"].to_list(), ids])
    if out.exists() and read_scores(out).meta.fingerprint == fingerprint:
        return Outcome(out, True, f"scores of {router.method} up to date → {out}")
    if router.recipe_id and router.recipe_id != store.recipe_id:
        raise InvalidInputError(
            f"{spec.router} was fitted on another recipe ({router.recipe_id[:12]}) than {spec.store} "
            f"({store.recipe_id[:12]}): its scores would mean nothing; fit it on this store, or extract with its recipe"
        )
    layer = pick_layer(store, router.layer or None, probe.layers)
    streams = open_streams(store) if router.settings.get("mode", "cached") != "cached" else None
    begun = time.perf_counter()
    with watch(f"predict {router.method}"):
        scores = probe.predict_proba(_examples(store, rows, None, layer, streams, spec.device))
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
    )
    write_scores(out, ids, scores, meta)
    return Outcome(out, False, f"{len(ids)} samples scored by {router.method} → {out}", {"samples": len(ids)})


def evaluate(spec: EvaluateSpec, watch: Watch = silent) -> Outcome:
    """Compare every scored method of a store and write the report."""
    from relope.evaluate.report import build_report
    from relope.reporting import finished_report, report_inputs

    out = spec.out or Path(f"{outputs_beside(spec.store)}.report")
    inputs = report_inputs(spec)
    report = finished_report(out, inputs)
    reused = report is not None
    if report is None:
        with watch("evaluate") as progress:
            progress(0, 1)
            report = build_report(inputs, out)
            progress(1, 1)
    state = "up to date" if reused else f"on {report['n']} samples"
    return Outcome(out, reused, f"{len(report['methods'])} methods {state} → {out / 'report.html'}", {"report": report})


STEPS: dict[str, Callable[..., Outcome]] = {
    "extract": extract,
    "grade": grade,
    "fit": fit,
    "predict": predict,
    "evaluate": evaluate,
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


def _examples(store: "ActivationStore", rows: Any, correct: Any, layer: int, streams: Any, device: str) -> "Examples":
    from relope.probes import Examples

    place = "cpu"
    if device != "cpu":
        from relope.extract.backbone import pick_device

        place = str(pick_device(device))
    return Examples(store, rows, correct, layer, streams, place)


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
