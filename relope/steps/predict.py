"""The step ``predict``: a router asked about a store's samples."""

import time
from pathlib import Path

from relope import registry
from relope.evaluate.scores import ScoresMeta, read_scores, write_scores
from relope.probes.examples import Examples
from relope.probes.protocol import block_use, note_of, pick_layer
from relope.probes.router import check_recipe, open_router
from relope.provenance import digest
from relope.spec import PredictSpec
from relope.steps.outputs import scores_path
from relope.steps.reopen import device_here, ensure_block, open_streams
from relope.steps.step import Step
from relope.store import open_store
from relope.store.grades import parsed_answers, rows_of
from relope.types import Outcome, Watch

VERSION = 1


def output(spec: PredictSpec) -> Path:
    """Return the file of the scores, called like the router's folder, or like a method that trains nothing."""
    return spec.out or scores_path(spec.store, Path(spec.router).name)


def run(spec: PredictSpec, watch: Watch) -> Outcome:
    """Score a store's samples with a router, or with a method that trains nothing."""
    out = output(spec)
    store = open_store(spec.store)
    router, probe = open_router(spec.router)
    rows = rows_of(store, spec.split)
    samples = store.samples[rows]
    parsed = parsed_answers(store, rows, spec.grades)
    read = parsed.rows() if parsed is not None and probe.traits.reads_grades else None
    asked = [VERSION, router.method, registry.version("methods", router.method), router.fingerprint, store.recipe_id]
    fingerprint = digest([asked, samples.select("id", "content").rows(), read])
    if out.exists() and read_scores(out).meta.fingerprint == fingerprint:
        return Outcome(out, True, f"scores of {router.method} up to date → {out}")
    note = check_recipe(spec.router, router, store, spec.transfer)
    layer, device = pick_layer(store, probe, router.layer or None), device_here(spec.device)
    ensure_block(store, probe, layer)
    streams = open_streams(store, device) if block_use(probe) == "streamed" else None
    begun, bytes_before = time.perf_counter(), store.bytes_read
    with watch(f"predict {router.method}"):
        scores = probe.predict_proba(Examples(store, rows, None, layer, streams, device, parsed))
    meta = ScoresMeta(
        method=router.method,
        seconds_fit=router.seconds_fit if probe.traits.trains else None,
        seconds_predict=time.perf_counter() - begun,
        recipe_id=store.recipe_id,
        content_id=store.content_id,
        router=router.fingerprint or None,
        seed=router.seed,
        needs_training=probe.traits.trains,
        is_control=probe.traits.control,
        fingerprint=fingerprint,
        note="; ".join(text for text in (note, note_of(probe)) if text),
        bytes_read_fit=router.bytes_read if probe.traits.trains else None,
        bytes_read=store.bytes_read - bytes_before,
        fitted_on=router.recipe_id or None,
        identity=dict(store.manifest.identity),
        learned=router.splits if router.recipe_id == store.recipe_id else [],
    )
    write_scores(out, samples["id"].to_list(), scores, meta)
    return Outcome(out, False, f"{len(samples)} samples scored by {router.method} → {out}", {"samples": len(samples)})


STEP = Step(run, output, version=VERSION)
