"""The step ``predict``: a router asked about a store's samples."""

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl

from relope import registry
from relope.asked import asked_column
from relope.command_line import command_line, now
from relope.evaluate.scores import RunNote, ScoresMeta, check_ending, fingerprint_of, read_note, write_scores
from relope.probes.protocol import note_of
from relope.probes.router import Router, RouterRecord, load_router
from relope.provenance import digest
from relope.spec import PredictSpec
from relope.steps.decide import RULE, Rows, check_decision, decision, held_out
from relope.steps.decide import Scores as Values
from relope.steps.joins import learned_otherwise
from relope.steps.outcomes import Scored
from relope.steps.outputs import scores_path
from relope.steps.reopen import device_here, open_block
from relope.steps.step import Step
from relope.store import ActivationStore, open_store
from relope.store.grades import counting, parsed_answers, read_grades, rows_of
from relope.types import Watch
from relope.words import counted

VERSION = 3
"""Of the scores; 2 keeps what was asked, 3 which samples the router learned from."""


def output(spec: PredictSpec) -> Path:
    """Return the file of the scores, called like the router's folder, or like a method that trains nothing."""
    return spec.out or scores_path(spec.store, Path(spec.router).name)


def check(spec: PredictSpec) -> None:
    """Refuse two ways of deciding, and a file of another kind."""
    check_decision(spec.budget, spec.threshold)
    check_ending(output(spec))


def run(spec: PredictSpec, watch: Watch) -> Scored:
    """Score a store's samples with a router, or with a method that trains nothing; decide on them if asked."""
    check(spec)
    out, store = output(spec), open_store(spec.store)
    rows = rows_of(store, spec.split)  # a mistake in what is scored is told before a router loads torch
    router = load_router(spec.router)
    method = router.record.method
    samples, reads = store.samples[rows], router.probe.traits.reads_grades
    if spec.grades is not None:
        read_grades(store, spec.grades)  # grades that are not there are refused, also where the method reads none
    grader = (spec.grades or counting(store) or "") if reads else ""
    grades = parsed_answers(store, rows, grader or None) if reads else None
    held = held_out(router, store, spec.split) if spec.budget is not None else None
    fingerprint = _fingerprint(spec, router, store, samples, grades, held)
    judge = spec.grades or counting(store) or ""
    warned = learned_otherwise(method, router.record.grader, judge, f"scores {store.label}, which is judged now")
    if fingerprint_of(out) == fingerprint:
        text = f"scores of {method} up to date{_by(router.record, grader)} → {out}"
        return replace(_up_to_date(out, text, read_note(out)), warnings=warned)
    note, device = router.check_recipe(store, spec.transfer), device_here(spec.device)
    streams = open_block(store, [(router.probe, router.layer_in(store))], device)
    begun, bytes_before = time.perf_counter(), store.bytes_read

    def score(of: Rows) -> Values:
        read = parsed_answers(store, of, grader or None) if reads else None
        return router.score(store, of, read, device=device, streams=streams)

    with watch(f"predict {method}"):
        scores = score(rows)
        decided = decision(spec.budget, spec.threshold, scores, held, score)
    seconds = time.perf_counter() - begun
    record, traits = router.record, router.probe.traits
    meta = ScoresMeta(
        method=method,
        seconds_fit=record.seconds_fit if traits.trains else None,
        seconds_predict=None,
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
        learned=router.learned_in(store),
        grader=record.grader,
        grades_read=grader,
        n_train=record.n_samples if traits.trains else None,
        layer=router.layer_in(store) if router.probe.layers(router.layer_in(store)) else None,
        settings=router.get_params(),
        model=str(store.manifest.recorded.get("model", "")),
        dataset=str(store.manifest.recorded.get("dataset", "")),
        splits=list(spec.split),
        fit_splits=record.splits,
        fit_command=record.command,
        fit_date=record.date,
    )
    seen = None if router.marks is None else router.seen_in(store, rows)  # of an older router only splits are known
    escalate = None if decided is None else decided.escalates(scores)
    note_beside = _note(spec, out, record, seconds)
    if decided is not None and escalate is not None:
        told, n = decided.told(scores), int(escalate.sum())
        note_beside = replace(note_beside, decided=told, threshold=decided.threshold, escalated=n)
    write_scores(out, samples["id"].to_list(), scores, meta, asked_column(samples), note_beside, escalate, seen)
    facts: dict[str, Any] = {"samples": len(samples), "grader": record.grader or None, "grades_read": grader or None}
    facts["seen"] = n_seen = int(seen.sum()) if seen is not None else None if traits.trains else 0
    text = f"{counted(len(samples), 'sample')}{_seen(n_seen)} scored by {method}{_by(record, grader)} → {out}"
    return Scored(out, False, text + _decided(note_beside), facts | _decision(note_beside), warnings=warned)


def _seen(n: int | None) -> str:
    """Say how many of the samples a router learned from; None where an older relope fitted it."""
    if n is None:
        return " (which of them it learned from is not known: an older relope fitted it)"
    return f" ({n:,} of them it learned from)" if n else ""


def _up_to_date(out: Path, text: str, note: RunNote) -> Scored:
    """Return what is told of scores that are there already; what was decided by them is told again."""
    return Scored(out, True, text + _decided(note), _decision(note))


def _decided(note: RunNote) -> str:
    return f"\n{note.decided}" if note.decided else ""


def _decision(note: RunNote) -> dict[str, Any]:
    return {"threshold": note.threshold, "escalated": note.escalated} if note.decided else {}


def _by(record: RouterRecord, grader: str) -> str:
    """Say which graders the scores hang on."""
    fitted = f", fitted on grades by {record.grader}" if record.grader else ""
    return fitted + (f", answers read by {grader}" if grader else "")


def _note(spec: PredictSpec, out: Path, record: RouterRecord, seconds: float) -> RunNote:
    """Return what is told of a run beside its scores: with it `evaluate` finds a router that was fitted anew."""
    router = os.path.relpath(spec.router, out.parent) if record.fingerprint else ""
    return RunNote(command_line(spec), now(), seconds, router)


def _fingerprint(
    spec: PredictSpec,
    router: Router,
    store: ActivationStore,
    samples: pl.DataFrame,
    grades: pl.DataFrame | None,
    held: Rows | None,
) -> str:
    """Return a digest of everything that decides the scores, and what is decided by them."""
    record = router.record
    read = grades.rows() if grades is not None and router.probe.traits.reads_grades else None
    asked = [VERSION, record.method, registry.version("methods", record.method), record.fingerprint, store.recipe_id]
    scored = [asked, samples.select("id", "content").rows(), read]
    if spec.budget is None and spec.threshold is None:
        return digest(scored)
    set_on = None if held is None else store.samples[held].select("id", "content").rows()
    rule = [] if spec.budget is None else [RULE]
    return digest([*scored, spec.budget, spec.threshold, set_on, *rule])


STEP = Step(run, output, version=VERSION, check=check)
