"""The step ``plan``: what an extraction will cost on disk and in time."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from relope.spec import PlanSpec
from relope.steps.extract import output
from relope.steps.step import Step
from relope.store import Identity, StoreManifest, check_recipe, read_manifest
from relope.types import Outcome, Sample, Watch
from relope.words import counted

if TYPE_CHECKING:
    from relope.extract.data.flaws import Flaw
    from relope.extract.extraction import Extraction, ModelChoice
    from relope.extract.model.backbone import Backbone


def run(spec: PlanSpec, watch: Watch) -> Outcome:
    """Say what an extraction will cost on disk and, if some samples may be run, in time."""
    from relope.extract.bill import estimate
    from relope.extract.data.flaws import describe
    from relope.extract.endpoint.address import check_url
    from relope.extract.growth import continued
    from relope.extract.timing import time_batches
    from relope.steps.extraction import extraction_of, samples_of

    extraction, out = extraction_of(spec), output(spec)
    if spec.endpoint is not None:
        check_url(spec.endpoint, spec.model)
    asked = samples_of(extraction, watch)
    extraction = continued(extraction, out)
    if spec.endpoint is not None:
        return _elsewhere(spec, extraction, out, asked)
    there = read_manifest(out) if (out / "zarr.json").is_file() else None
    backbone = extraction.model.open() if spec.measure else _model(spec, extraction, there).skeleton()
    if there is not None:
        _check_recipe(spec, extraction, backbone, out, there)
    samples, flaws = _usable(extraction, backbone, asked)
    batches = extraction.batches(backbone)
    bill = estimate(batches, samples, out)
    if spec.measure:
        with watch("measure (batches)") as progress:
            timing = time_batches(batches, samples, extraction.batch_size(backbone), spec.measure, progress)
        bill = replace(bill, timing=timing)
    notes = [*extraction.dataset.notes]
    notes += [f"{len(flaws)} of {len(asked)} samples cannot be used: {describe(flaws)}"] if flaws else []
    text = "\n".join([*notes, *bill.lines(extraction.tokens, out)])
    return Outcome(out, False, text, {**bill.facts(), "notes": notes, "skipped": [vars(flaw) for flaw in flaws]})


def _model(spec: PlanSpec, extraction: "Extraction", there: StoreManifest | None) -> "ModelChoice":
    """Return the model, in the dtype of a store that is there where nothing here tells what a card elsewhere takes."""
    elsewhere = spec.engine != "local" or bool(spec.devices)
    if there is None or spec.dtype != "auto" or not elsewhere or there.answers_only:
        return extraction.model
    return replace(extraction.model, dtype=there.identity.compute_dtype)


def _check_recipe(
    spec: PlanSpec, extraction: "Extraction", backbone: "Backbone", out: Path, there: StoreManifest
) -> None:
    """Refuse a store of another recipe, as `extract` would, as far as that can be told without weights.

    A checkpoint of the same name and revision is taken to have the weights that it had: their digests take as long as
    they take to read. What an engine adds once it runs is taken from the store.

    Raises:
        StoreError: the store there is of another recipe.
    """
    from relope.extract.engine import engine_module, open_engine
    from relope.extract.recipe import make_manifest
    from relope.steps.extraction import settings_of

    asked = make_manifest(backbone, extraction, open_engine(spec.engine, extraction, settings_of(spec)))
    kept, told = there.identity, dict(asked.identity)
    same = all(there.recorded.get(name) == backbone.recorded.get(name) for name in ("model", "source", "revision"))
    for name in ("model_files", "adapter_files"):
        if name in kept and name not in told:
            told[name] = kept[name] if same else f"of {backbone.name}"
    if spec.engine == dict(kept.get("engine") or {}).get("name"):
        told["engine"] = kept["engine"]
    elif not engine_module(spec.engine).EXACT:
        told["engine"] = {"name": spec.engine}
    check_recipe(out, replace(asked, identity=Identity(told)))


def _elsewhere(spec: PlanSpec, extraction: "Extraction", out: Path, asked: Sequence[Sample]) -> Outcome:
    """Say how many questions an endpoint will be asked, and what their answers cost at most; it is asked nothing."""
    from relope.evaluate.numbers.costs import dollars_of
    from relope.extract.data.flaws import describe, find_plain_flaws, without_flawed
    from relope.steps.prices import known_cost

    shown = extraction.view.worded(asked)
    flaws = find_plain_flaws(shown, extraction.view.text_only)
    held = _stored(spec, extraction, out)
    missing = [sample for sample in without_flawed(shown, flaws, extraction.strict) if sample.id not in held]
    n_images = sum(len(sample.images) for sample in missing) * (not extraction.view.text_only)
    n_tokens = len(missing) * extraction.max_new_tokens
    cost = known_cost(spec.costs, spec.model, spec.max_usd)
    dollars = dollars_of(cost, 0, n_tokens)
    text = (
        f"{counted(len(missing), 'question')} with {counted(n_images, 'image')} to ask {spec.model}, {len(held)} are "
    )
    text += f"answered; at most {n_tokens:,} tokens of answers"
    text += "" if dollars is None else f", ${dollars:.2f}, besides what the prompts cost"
    notes = [f"{len(flaws)} of {len(asked)} samples cannot be used: {describe(flaws)}"] if flaws else []
    facts = {"samples": len(missing), "images": n_images, "answer_tokens": n_tokens, "answer_dollars": dollars}
    skipped = {"skipped": [vars(flaw) for flaw in flaws]}
    return Outcome(out, False, "\n".join([*notes, text]), {**facts, "notes": notes, **skipped})


def _stored(spec: PlanSpec, extraction: "Extraction", out: Path) -> Collection[str]:
    """Return the samples whose answers are there already.

    Raises:
        StoreError: the store there is of another recipe: `extract` would refuse it.
    """
    from relope.extract.asking_recipe import asking_manifest
    from relope.extract.growth import stored_inputs

    if not (out / "zarr.json").is_file():
        return ()
    check_recipe(out, asking_manifest(extraction, str(spec.endpoint), spec.max_pixels))
    return stored_inputs(out)


def _usable(
    extraction: "Extraction", backbone: "Backbone", asked: Sequence[Sample]
) -> "tuple[list[Sample], list[Flaw]]":
    """Return the samples as the model shall see them, without those that cannot be used, and these.

    Images and prompts are looked at of the samples alone that the bill is made from: of all it takes as long as to
    extract.
    """
    from relope.extract.bill import tried
    from relope.extract.data.flaws import find_flaws, find_plain_flaws, without_flawed
    from relope.extract.prompt_checks import unreadable_prompts

    view = extraction.view
    shown = view.worded(asked)
    flaws = find_plain_flaws(shown, view.text_only)
    sound = without_flawed(shown, flaws, extraction.strict)
    looked_at = tried(sound)
    broken, sizes = find_flaws(looked_at, view.text_only)
    flawed = {flaw.id for flaw in broken}
    whole = [sample for sample in looked_at if sample.id not in flawed]
    broken += unreadable_prompts(backbone, whole, sizes, view.text_only, extraction.room(backbone))
    return view.perturbed(without_flawed(sound, broken, extraction.strict)), [*flaws, *broken]


STEP = Step(run, output, version=1)
