"""Out-of-fold scores: every sample scored by a router that never saw its group, for sets too small to split."""

import time
from pathlib import Path

import numpy as np

from relope.asked import asked_column
from relope.command_line import now
from relope.errors import InvalidInputError
from relope.evaluate.numbers.calibration import fold_of_groups
from relope.evaluate.numbers.metrics import Ints
from relope.evaluate.scores import RunNote, ScoresMeta, read_scores, write_scores
from relope.probes.protocol import fresh
from relope.provenance import digest
from relope.steps.lesson import Lesson
from relope.steps.outcomes import Fitted
from relope.store import ActivationStore
from relope.types import Watch, no_progress
from relope.words import counted


def score_out_of_fold(lesson: Lesson, asked: int, out: Path, watch: Watch) -> Fitted:
    """Fit one router a fold on the other folds, and score the fold with it; no router is kept.

    Choice: folds are cut by groups with the seed of the fit, so that all methods of a seed have the same.

    Args:
        lesson: what is learned.
        asked: folds; fewer groups than folds make fewer.
        out: the scores.
        watch: told the folds done.

    Raises:
        InvalidInputError: all samples share one image.
    """
    from relope.probes.parallel import process_group

    fingerprint = digest([lesson.fingerprint, asked])
    if out.exists() and read_scores(out).meta.fingerprint == fingerprint:
        return Fitted(out, True, f"out-of-fold scores of {lesson.method} up to date → {out}", warnings=lesson.warnings)
    store, traits = lesson.training.store, lesson.probe.traits
    scores, seconds_fit = np.empty(len(lesson.training.rows), np.float32), 0.0
    examples = lesson.examples()
    fold = fold_of_groups(examples.groups, asked, lesson.seed)
    n_folds, learned = int(fold.max()) + 1, len(scores) - np.bincount(fold)
    if n_folds < 2:
        raise InvalidInputError(
            f"{lesson.method} cannot be scored out of fold: all {len(scores):,} training samples share one image",
            hint="extract more samples",
        )
    with process_group(examples.device, shared=False), watch(f"fit {lesson.method} out of fold") as progress:
        begun, bytes_before, bytes_fit = time.perf_counter(), store.bytes_read, 0
        for number in range(n_folds):
            progress(number, n_folds)
            held, probe = np.flatnonzero(fold == number), fresh(lesson.probe)
            started, bytes_then = time.perf_counter(), store.bytes_read
            probe.fit(examples.take(np.flatnonzero(fold != number)), seed=lesson.seed, progress=no_progress)
            seconds_fit += time.perf_counter() - started
            bytes_fit += store.bytes_read - bytes_then
            scores[held] = probe.predict_proba(examples.take(held))
        progress(n_folds, n_folds)
    seconds_predict = time.perf_counter() - begun - seconds_fit
    meta = ScoresMeta(
        method=lesson.method,
        seconds_fit=seconds_fit,
        seconds_predict=None,
        recipe_id=store.recipe_id,
        content_id=store.content_id if isinstance(store, ActivationStore) else "",
        router=None,
        seed=lesson.seed,
        needs_training=traits.trains,
        is_control=traits.control,
        fingerprint=fingerprint,
        note=f"out of fold: {n_folds} routers, fitted on {_between(learned)}, each sample scored by the one that did "
        "not see its group",
        bytes_read_fit=bytes_fit,
        bytes_read=store.bytes_read - bytes_before - bytes_fit,
        identity=dict(store.manifest.identity),
        folds=n_folds,
        grader=lesson.grader,
        grades_read=lesson.grader if traits.reads_grades else "",
        n_train=int(learned.min()),
        layer=lesson.layer if lesson.probe.layers(lesson.layer) else None,
        settings=lesson.probe.params.model_dump(),
        model=str(store.manifest.recorded.get("model", "")),
        dataset=lesson.dataset,
        splits=list(lesson.splits),
        fit_splits=list(lesson.splits),
    )
    digests, note = asked_column(store.samples[lesson.training.rows]), RunNote(lesson.command, now(), seconds_predict)
    write_scores(out, lesson.training.ids, scores, meta, digests, note)
    text = f"{counted(len(scores), 'sample')}, judged by {lesson.grader}, scored out of fold by "
    text += f"{counted(n_folds, 'router')} of {lesson.method} in {seconds_fit:.1f} s"
    facts = {"samples": len(scores), "seconds": seconds_fit, "folds": n_folds, "grader": lesson.grader}
    return Fitted(out, False, f"{text} → {out}", facts, warnings=lesson.warnings)


def _between(learned: Ints) -> str:
    """Say how many samples the routers learned from, of folds that groups may make uneven."""
    fewest, most = int(learned.min()), int(learned.max())
    return counted(most, "sample") if fewest == most else f"{fewest:,} to {most:,} samples"
