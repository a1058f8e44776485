"""The steps ``extract`` and ``plan``: from a data set and a model to a graded store, or to its price."""

import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from relope.errors import InvalidInputError
from relope.extract.batches import Batches
from relope.extract.bill import draw_up, warn_if_full
from relope.extract.data.dataset import DataSet, check_splits, load_samples, open_dataset
from relope.extract.grading.grader import open_grader
from relope.extract.intake import Intake, additions, take_in
from relope.extract.loop import run_units
from relope.extract.model.backbone import Backbone, open_backbone, open_skeleton
from relope.extract.model.card import open_card
from relope.extract.plan import halvings, make_plan, note_halving, read_plan
from relope.extract.recipe import answer_tokens, make_extras, make_manifest, parse_layers, save_block
from relope.extract.selfcheck import check_padding
from relope.extract.timing import time_batches
from relope.spec import ExtractSpec, GradeSpec, PlanSpec
from relope.steps import Outcome, Watch, grade
from relope.store import StoreWriter, create_or_open, plan_path
from relope.types import Sample


def extract_store(spec: ExtractSpec, watch: Watch) -> Outcome:
    """Run a model once over a data set into a store, then grade its answers."""
    _check_names(spec)
    dataset = open_dataset(spec.dataset)
    samples = _read(dataset, spec, watch)
    backbone = _open(spec)
    manifest = make_manifest(backbone, dataset, spec)
    if not backbone.card.source.startswith("package:"):
        check_padding(backbone, manifest.layers)
    existed = _out(spec, dataset).exists()
    writer = create_or_open(_out(spec, dataset), manifest, codec=spec.codec)
    writer.sweep()
    save_block(backbone, writer.path, manifest.layers)
    n_reused = _reuse(spec, writer, samples, watch)
    committed = writer.committed()
    try:
        with watch("check samples") as progress:
            intake = take_in(backbone, samples, writer, committed, spec, progress)
    except InvalidInputError:
        if not existed and not committed:  # an empty store would stand in the way of a mended recipe
            shutil.rmtree(writer.path)
        raise
    missing = [sample for sample in intake.samples if sample.id not in committed]
    bill = draw_up(backbone, missing, manifest.layers, manifest.dtype, writer.path, spec.text_only)
    warn_if_full(bill, spec.tokens, writer.path)
    outcome = _compute(spec, backbone, dataset, writer, intake, committed, watch)
    if not spec.reuse:
        return outcome
    text = f"{n_reused} samples taken from {spec.reuse}; {outcome.text}"
    return replace(outcome, text=text, facts={**outcome.facts, "reused": n_reused})


def _check_names(spec: ExtractSpec) -> None:
    """Tell a misspelt name or a layer that is not there before anything is fetched."""
    card = open_card(spec.model)
    if card.n_blocks:
        parse_layers(spec.layers, card.n_blocks, card.layer)
    if spec.grader:
        open_grader(spec.grader)
    additions(spec)


def _reuse(spec: ExtractSpec, writer: StoreWriter, samples: Sequence[Sample], watch: Watch) -> int:
    """Take what a teammate computed already; return the number of samples."""
    if not spec.reuse:
        return 0
    from relope.store.share.pull import reuse

    with watch("reuse (MiB)") as progress:
        return reuse(spec.reuse, writer, [sample.id for sample in samples], progress).n_samples


def _compute(
    spec: ExtractSpec,
    backbone: Backbone,
    dataset: DataSet,
    writer: StoreWriter,
    intake: Intake,
    committed: set[str],
    watch: Watch,
) -> Outcome:
    """Compute what the store lacks, publish it and judge the answers."""
    plan_file, samples = plan_path(writer.path), intake.samples
    batch_size = spec.batch_size or backbone.card.batch_size
    units = make_plan(plan_file, samples, committed, batch_size, backbone.hidden_size)
    batches = Batches(
        backbone, writer.manifest.layers, answer_tokens(dataset, spec), writer.manifest.dtype, make_extras(spec),
        spec.text_only, halved=lambda ids: note_halving(plan_file, ids),
    )  # fmt: skip
    begun = time.perf_counter()
    with watch(f"extract {spec.model}") as progress:
        waited = run_units(batches, writer, units, {sample.id: sample for sample in samples}, progress=progress)
    seconds = time.perf_counter() - begun
    writer.publish([writer.part_id(unit.ids) for unit in read_plan(plan_file)])
    n = sum(len(unit.ids) for unit in units)
    done = f"{n} samples in {seconds:.1f} s ({n / seconds:.0f}/s)" if n else f"{len(samples)} samples up to date"
    facts: dict[str, Any] = {"samples": len(samples), "computed": n, "seconds": seconds, "seconds_waiting": waited}
    facts |= {"halved": halvings(plan_file), "skipped": [vars(flaw) for flaw in intake.flaws]}
    text = f"{done} → {writer.path}"
    if batches.max_new_tokens:
        graded = grade(GradeSpec(store=str(writer.path), responses=None, grader=spec.grader))
        facts["accuracy"] = graded.facts["accuracy"]
        text += f", accuracy {facts['accuracy']:.3f}"
    return Outcome(writer.path, not n, f"{text}{_halved_note(facts['halved'])}{intake.note}", facts)


def _halved_note(halved: Sequence[Any]) -> str:
    return f"; memory ran out {len(halved)} times and batches were halved (plan.json names them)" if halved else ""


def plan_store(spec: PlanSpec, watch: Watch) -> Outcome:
    """Say what an extraction will cost on disk and, if some samples may be run, in time."""
    _check_names(spec)
    dataset = open_dataset(spec.dataset)
    samples = _read(dataset, spec, watch)
    backbone = _open(spec) if spec.measure else open_skeleton(spec.model, spec.device, spec.dtype)
    layers = parse_layers(spec.layers, len(backbone.blocks), backbone.default_layer)
    stored = str(backbone.dtype).removeprefix("torch.") if spec.store_dtype == "auto" else spec.store_dtype
    out = _out(spec, dataset)
    bill = draw_up(backbone, samples, layers, stored, out, spec.text_only)
    if spec.measure:
        batches = Batches(backbone, layers, answer_tokens(dataset, spec), stored, make_extras(spec), spec.text_only)
        with watch("measure (batches)") as progress:
            timing = time_batches(batches, samples, spec.batch_size or backbone.card.batch_size, spec.measure, progress)
        bill = replace(bill, timing=timing)
    return Outcome(out, False, "\n".join(bill.lines(spec.tokens, out)), bill.facts())


def _open(spec: ExtractSpec) -> Backbone:
    spread = spec.device_map == "auto"
    return open_backbone(spec.model, spec.device, spec.dtype, spec.attn, spread=spread, quantize=spec.quantize)


def _read(dataset: DataSet, spec: ExtractSpec, watch: Watch) -> list[Sample]:
    with watch("read data") as progress:
        progress(0, 1)
        samples = load_samples(dataset, check_splits(dataset, spec.split), spec.limit)
        progress(1, 1)
    return samples


def _out(spec: ExtractSpec, dataset: DataSet) -> Path:
    return spec.out or Path("runs") / f"{dataset.name}.zarr"
