"""Out-of-fold scores: every sample scored by a router that never saw its group, for sets too small to split."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from relope.errors import InvalidInputError
from relope.evaluate.numbers.calibration import fold_of_groups
from relope.evaluate.scores import ScoresMeta, read_scores, write_scores
from relope.provenance import digest
from relope.steps.lesson import Lesson
from relope.types import Outcome, Watch, no_progress


def score_out_of_fold(resolve: Callable[[], Lesson], asked: int, out: Path, watch: Watch) -> Outcome:
    """Fit one router a fold on the other folds, and score the fold with it; no router is kept.

    Choice: folds are cut by groups with the seed of the fit, so that all methods of a seed have the same.

    Args:
        resolve: reads what is learned, once the output is known to be sound.
        asked: folds; fewer groups than folds make fewer.
        out: the scores.
        watch: told the folds done.

    Raises:
        InvalidInputError: the output is meant to be a router.
    """
    if out.suffix != ".parquet":
        raise InvalidInputError(
            f"folds leave a file of scores and no router: {out} must end in .parquet", hint=f"give --out {out}.parquet"
        )
    lesson = resolve()
    fingerprint = digest([lesson.fingerprint, asked])
    if out.exists() and read_scores(out).meta.fingerprint == fingerprint:
        return Outcome(out, True, f"out-of-fold scores of {lesson.method} up to date → {out}")
    store, rows = lesson.training.store, lesson.training.rows
    examples = lesson.examples(folded=True)
    fold = fold_of_groups(examples.groups, asked, lesson.seed)
    n_folds = int(fold.max()) + 1
    scores, seconds_fit = np.empty(len(rows), np.float32), 0.0
    begun, bytes_before, bytes_fit = time.perf_counter(), store.bytes_read, 0
    with watch(f"fit {lesson.method} out of fold") as progress:
        for number in range(n_folds):
            progress(number, n_folds)
            held, probe = np.flatnonzero(fold == number), lesson.make()
            started, bytes_then = time.perf_counter(), store.bytes_read
            probe.fit(examples.take(np.flatnonzero(fold != number)), seed=lesson.seed, progress=no_progress)
            seconds_fit += time.perf_counter() - started
            bytes_fit += store.bytes_read - bytes_then
            scores[held] = probe.predict_proba(examples.take(held))
        progress(n_folds, n_folds)
    meta = ScoresMeta(
        method=lesson.method,
        seconds_fit=seconds_fit,
        seconds_predict=time.perf_counter() - begun - seconds_fit,
        recipe_id=store.recipe_id,
        content_id=getattr(store, "content_id", ""),
        router=None,
        seed=lesson.seed,
        needs_training=probe.traits.trains,
        is_control=probe.traits.control,
        fingerprint=fingerprint,
        note=f"out of fold: {n_folds} routers, each sample scored by the one that did not see its group",
        bytes_read_fit=bytes_fit,
        bytes_read=store.bytes_read - bytes_before - bytes_fit,
        identity=dict(store.manifest.identity),
        folds=n_folds,
    )
    write_scores(out, store.samples[rows]["id"].to_list(), scores, meta)
    text = f"{len(rows)} samples scored out of fold by {n_folds} routers of {lesson.method} in {seconds_fit:.1f} s"
    return Outcome(out, False, f"{text} → {out}", {"samples": len(rows), "seconds": seconds_fit, "folds": n_folds})
