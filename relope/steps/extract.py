"""The step ``extract``: from a data set and a model to a graded store."""

import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from relope.errors import InvalidInputError
from relope.extract.batches import Batches
from relope.extract.bill import draw_up, warn_if_full
from relope.extract.data.dataset import DataSet
from relope.extract.data.open import dataset_name, open_dataset
from relope.extract.intake import Intake, take_in
from relope.extract.loop import run_units
from relope.extract.model.backbone import Backbone
from relope.extract.plan import halvings, make_plan, note_halving, read_plan
from relope.extract.recipe import answer_tokens, make_extras, make_manifest, save_block
from relope.extract.selfcheck import check_padding
from relope.spec import ExtractSpec
from relope.steps.extraction import check_names, open_model, read_samples
from relope.steps.grade import grade_store
from relope.steps.outputs import store_path
from relope.steps.step import Step
from relope.store import StoreWriter, create_or_open, open_store, plan_path
from relope.types import Outcome, Sample, Watch


def output(spec: ExtractSpec) -> Path:
    """Return the store's folder."""
    return spec.out or store_path(dataset_name(spec.dataset))


def run(spec: ExtractSpec, watch: Watch) -> Outcome:
    """Run a model once over a data set into a store, then grade its answers."""
    check_names(spec)
    dataset = open_dataset(spec.dataset)
    samples = read_samples(dataset, spec, watch)
    backbone = open_model(spec)
    manifest = make_manifest(backbone, dataset, spec)
    if not backbone.card.source.startswith("package:"):
        check_padding(backbone, manifest.layers)
    existed = output(spec).exists()
    writer = create_or_open(output(spec), manifest, codec=spec.codec)
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
        graded = grade_store(open_store(writer.path), spec.grader)
        facts["accuracy"] = graded.facts["accuracy"]
        text += f", accuracy {facts['accuracy']:.3f}"
    return Outcome(writer.path, not n, f"{text}{_halved_note(facts['halved'])}{intake.note}", facts)


def _halved_note(halved: Sequence[Any]) -> str:
    return f"; memory ran out {len(halved)} times and batches were halved (plan.json names them)" if halved else ""


def grader_of(spec: ExtractSpec) -> list[tuple[str, str]]:
    """Return the grader that answers are judged by when none is named: what the store says, once it is there."""
    if spec.grader is not None or not (output(spec) / "zarr.json").is_file():
        return []
    return [("graders", open_store(output(spec)).manifest.grader)]


STEP = Step(run, output, version=1, alone=True, grows=True, plugins=grader_of)
