"""Time a whole evaluation against a loop over scikit-learn: ``python benchmarks/bench_evaluate.py [--json]``.

Ten methods, 10,000 samples, 2,000 resamples, one thread: every statistic of a report with its interval, paired
differences, calibration and slices. The loop is scikit-learn's AUC alone, once a method and resample. Seconds are CPU
seconds of this process, which other work on the machine does not lengthen much.
"""

import os

os.environ.update({name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS")})

import time

import numpy as np
import polars as pl
from figures import Figure, at_least, at_most, main
from sklearn.metrics import roc_auc_score

from relope.evaluate.numbers.analysis import analyse
from relope.evaluate.numbers.bootstrap import bootstrap_auc, resample_weights
from relope.evaluate.numbers.inputs import MethodScores, ReportInputs

METHODS, SAMPLES, RESAMPLES, LOOP = 10, 10_000, 2_000, 20


def made_inputs() -> ReportInputs:
    """Return a report's inputs with half of the methods full of ties."""
    rng = np.random.default_rng(0)
    correct = rng.random(SAMPLES) < 0.6
    scores = np.clip(rng.normal(0.5 + 0.1 * correct, 0.15, (METHODS, SAMPLES)), 0, 1)
    scores[METHODS // 2 :] = scores[METHODS // 2 :].round(2)
    columns = {
        "id": [f"s{place}" for place in range(SAMPLES)],
        "split": ["test"] * SAMPLES,
        "group": [f"g{number}" for number in rng.integers(0, SAMPLES // 2, SAMPLES)],
        "correct": correct,
        "question": ["what ?"] * SAMPLES,
        "response": ["that"] * SAMPLES,
        "answers": [["this"]] * SAMPLES,
        "dataset": ["made"] * SAMPLES,
    }
    names = ["probe", *(f"method-{place}" for place in range(1, METHODS))]
    return ReportInputs(
        title="", what="", small_name="small", large_name="large", dataset="made", labels=pl.DataFrame(columns),
        methods=[MethodScores(name, row) for name, row in zip(names, scores, strict=True)],
        large_correct=rng.random(SAMPLES) < 0.85, resamples=RESAMPLES, seed=1,
    )  # fmt: skip


def measure() -> dict[str, Figure]:
    """Return name → figure."""
    inputs = made_inputs()
    start = time.process_time()
    analysis = analyse(inputs)
    whole = time.process_time() - start

    start = time.process_time()
    ours = bootstrap_auc(inputs.correct, inputs.scores, inputs.groups, RESAMPLES, inputs.seed)
    aucs = time.process_time() - start

    weights = next(resample_weights(inputs.groups, LOOP, inputs.seed))
    start = time.process_time()
    theirs = [
        [roc_auc_score(inputs.correct, row, sample_weight=column) for column in weights.T] for row in inputs.scores
    ]
    loop = (time.process_time() - start) * RESAMPLES / LOOP
    gap = float(np.abs(np.array(theirs) - analysis.resampled.drawn["auc"][:, :LOOP]).max())
    same = float(np.abs(np.stack([auc.resampled for auc in ours]) - analysis.resampled.drawn["auc"]).max())
    return {
        "evaluation_seconds": at_most(whole, 15),
        "auc_speedup_over_sklearn": at_least(loop / aucs, 20),
        "evaluation_speedup_over_sklearn_aucs": at_least(loop / whole, 1),
        "largest_disagreement": at_most(max(gap, same), 1e-12),
    }


if __name__ == "__main__":
    main(measure, __doc__)
