"""The step ``predict``: a router asked about a store's samples."""

import time
from pathlib import Path

from relope.evaluate.scores import ScoresMeta, read_scores, write_scores
from relope.fits import device_here, ensure_block
from relope.probes.router import check_recipe, open_router, scores_path
from relope.provenance import digest
from relope.spec import PredictSpec
from relope.steps import Outcome, Watch, examples_of, open_streams, pick_layer
from relope.store import ActivationStore
from relope.store.grades import rows_of, verdicts_of
from relope.version import __version__


def score_samples(spec: PredictSpec, watch: Watch) -> Outcome:
    """Score a store's samples with a router, or with a method that trains nothing."""
    store = ActivationStore.open(spec.store)
    router, probe = open_router(spec.router)
    out = spec.out or scores_path(spec.store, Path(spec.router).name if router.fingerprint else router.method)
    rows = rows_of(store, spec.split)
    ids = store.samples[rows]["id"].to_list()
    verdicts = verdicts_of(store, rows, spec.grades)
    read = verdicts.rows() if verdicts is not None and getattr(probe, "reads_verdicts", False) else None
    content = store.samples[rows]["content"].to_list()
    fingerprint = digest([router.method, router.fingerprint, store.recipe_id, content, ids, read, __version__])
    if out.exists() and read_scores(out).meta.fingerprint == fingerprint:
        return Outcome(out, True, f"scores of {router.method} up to date → {out}")
    note = check_recipe(spec.router, router, store, spec.transfer)
    layer = pick_layer(store, router.layer or None, probe.layers)
    ensure_block(store, probe, layer)
    streamed = router.settings.get("mode", "cached") != "cached"
    streams = open_streams(store, device_here(spec.device)) if streamed else None
    begun, bytes_before = time.perf_counter(), store.bytes_read
    with watch(f"predict {router.method}"):
        scores = probe.predict_proba(examples_of(store, rows, None, layer, streams, spec.device, verdicts))
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
        identity=store.manifest.identity,
        learned=router.splits if router.recipe_id == store.recipe_id else [],
    )
    write_scores(out, ids, scores, meta)
    return Outcome(out, False, f"{len(ids)} samples scored by {router.method} → {out}", {"samples": len(ids)})
