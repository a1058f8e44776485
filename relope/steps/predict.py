"""The step ``predict``: a router asked about a store's samples."""

import time
from pathlib import Path

import polars as pl

from relope import registry
from relope.evaluate.scores import ScoresMeta, read_scores, write_scores
from relope.probes.protocol import note_of
from relope.probes.router import Router, load_router
from relope.provenance import digest
from relope.spec import PredictSpec
from relope.steps.outcomes import Scored
from relope.steps.outputs import scores_path
from relope.steps.reopen import device_here, open_block
from relope.steps.step import Step
from relope.store import ActivationStore, open_store
from relope.store.grades import parsed_answers, rows_of
from relope.types import Watch

VERSION = 1


def output(spec: PredictSpec) -> Path:
    """Return the file of the scores, called like the router's folder, or like a method that trains nothing."""
    return spec.out or scores_path(spec.store, Path(spec.router).name)


def run(spec: PredictSpec, watch: Watch) -> Scored:
    """Score a store's samples with a router, or with a method that trains nothing."""
    out, store, router = output(spec), open_store(spec.store), load_router(spec.router)
    method, rows = router.record.method, rows_of(store, spec.split)
    samples, grades = store.samples[rows], parsed_answers(store, rows, spec.grades)
    fingerprint = _fingerprint(router, store, samples, grades)
    if out.exists() and read_scores(out).meta.fingerprint == fingerprint:
        return Scored(out, True, f"scores of {method} up to date → {out}")
    note, device = router.check_recipe(store, spec.transfer), device_here(spec.device)
    streams = open_block(store, [(router.probe, router.layer_in(store))], device)
    begun, bytes_before = time.perf_counter(), store.bytes_read
    with watch(f"predict {method}"):
        scores = router.score(store, rows, grades, device=device, streams=streams)
    record, traits = router.record, router.probe.traits
    meta = ScoresMeta(
        method=method,
        seconds_fit=record.seconds_fit if traits.trains else None,
        seconds_predict=time.perf_counter() - begun,
        recipe_id=store.recipe_id,
        content_id=store.content_id,
        router=record.fingerprint or None,
        seed=record.seed,
        needs_training=traits.trains,
        is_control=traits.control,
        fingerprint=fingerprint,
        note="; ".join(text for text in (note, note_of(router.probe)) if text),
        bytes_read_fit=record.bytes_read if traits.trains else None,
        bytes_read=store.bytes_read - bytes_before,
        fitted_on=record.recipe_id or None,
        identity=dict(store.manifest.identity),
        learned=record.splits if record.recipe_id == store.recipe_id else [],
    )
    write_scores(out, samples["id"].to_list(), scores, meta)
    return Scored(out, False, f"{len(samples)} samples scored by {method} → {out}", {"samples": len(samples)})


def _fingerprint(router: Router, store: ActivationStore, samples: pl.DataFrame, grades: pl.DataFrame | None) -> str:
    """Return a digest of everything that decides the scores."""
    record = router.record
    read = grades.rows() if grades is not None and router.probe.traits.reads_grades else None
    asked = [VERSION, record.method, registry.version("methods", record.method), record.fingerprint, store.recipe_id]
    return digest([asked, samples.select("id", "content").rows(), read])


STEP = Step(run, output, version=VERSION)
