"""Out-of-fold scores: every sample scored by a router that never saw its group, for sets too small to split."""

import time
from pathlib import Path

import numpy as np

from relope import __version__
from relope.evaluate.calibration import fold_of_groups
from relope.evaluate.scores import ScoresMeta, read_scores, write_scores
from relope.examples import training_samples, training_verdicts
from relope.fitting import large_verdicts
from relope.probes import Examples, make
from relope.provenance import digest
from relope.routers import scores_path
from relope.spec import FitSpec
from relope.steps import Watch, pick_layer
from relope.types import no_progress


def score_out_of_fold(spec: FitSpec, router: Path, watch: Watch) -> tuple[Path, bool]:
    """Fit one router a fold on the other folds, and score the fold; return the scores and whether they stood.

    The scores lie in ``<store>.scores/<router>@folds<K>.parquet``; evaluate them on the same split.
    """
    settings = {**spec.set, **({"mode": spec.mode} if spec.mode else {})}
    training = training_samples(spec)
    store, rows, correct = training.store, training.rows, training.correct
    path = scores_path(spec.store, f"{router.name}@folds{spec.folds}")
    ids = store.samples[rows]["id"].to_list()
    asked = spec.model_dump(mode="json", exclude={"out", "store", "also", "device"})
    known = store.samples[rows]["content"].to_list()
    fingerprint = digest([asked, store.recipe_id, ids, known, correct.tolist(), __version__])
    if path.exists() and read_scores(path).meta.fingerprint == fingerprint:
        return path, True
    probe = make(spec.method, settings)
    layer = pick_layer(store, spec.layer, probe.layers)
    verdicts, large = training_verdicts(store, rows, spec.grades), large_verdicts(spec, store, rows)
    examples = Examples(store, rows, correct, layer, verdicts=verdicts, large_correct=large)
    fold = fold_of_groups(examples.groups, spec.folds or 2, spec.seed)
    scores, seconds_fit, begun = np.empty(len(rows), np.float32), 0.0, time.perf_counter()
    with watch(f"fit {spec.method} out of fold") as progress:
        for number in range(int(fold.max()) + 1):
            progress(number, int(fold.max()) + 1)
            held = np.flatnonzero(fold == number)
            one = make(spec.method, settings)
            started = time.perf_counter()
            one.fit(examples.take(np.flatnonzero(fold != number)), seed=spec.seed, progress=no_progress)
            seconds_fit += time.perf_counter() - started
            scores[held] = one.predict_proba(examples.take(held))
    meta = ScoresMeta(
        method=spec.method,
        seconds_fit=seconds_fit,
        seconds_predict=time.perf_counter() - begun - seconds_fit,
        recipe_id=store.recipe_id,
        content_id="",
        router=None,
        seed=spec.seed,
        needs_training=probe.trains,
        is_control=probe.control,
        fingerprint=fingerprint,
        note=f"out of fold: {int(fold.max()) + 1} routers, each sample scored by the one that did not see its group",
    )
    write_scores(path, ids, scores, meta)
    return path, False
