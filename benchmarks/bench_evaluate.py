"""Time the AUC bootstrap against a loop over scikit-learn: ``python benchmarks/bench_evaluate.py [--json]``."""

import time

import numpy as np
from figures import Figure, at_least, at_most, main
from sklearn.metrics import roc_auc_score

from relope.evaluate.bootstrap import bootstrap_auc, resample_weights

METHODS, SAMPLES, RESAMPLES, LOOP = 10, 10_000, 2_000, 20


def measure() -> dict[str, Figure]:
    """Return name → figure."""
    rng = np.random.default_rng(0)
    correct = rng.random(SAMPLES) < 0.6
    scores = np.clip(rng.normal(0.5 + 0.1 * correct, 0.15, (METHODS, SAMPLES)), 0, 1)
    scores[METHODS // 2 :] = scores[METHODS // 2 :].round(2)
    groups = np.char.add("g", rng.integers(0, SAMPLES // 2, SAMPLES).astype(str))

    start = time.perf_counter()
    ours = bootstrap_auc(correct, scores, groups, RESAMPLES, seed=1)
    seconds = time.perf_counter() - start

    weights = next(resample_weights(groups, LOOP, seed=1))
    start = time.perf_counter()
    theirs = [[roc_auc_score(correct, row, sample_weight=column) for column in weights.T] for row in scores]
    loop = (time.perf_counter() - start) * RESAMPLES / LOOP
    gap = float(np.abs(np.array(theirs) - ours.resampled[:, :LOOP]).max())
    return {
        "bootstrap_seconds": at_most(seconds, 15),
        "speedup_over_sklearn": at_least(loop / seconds, 20),
        "largest_disagreement": at_most(gap, 1e-12),
    }


if __name__ == "__main__":
    main(measure, __doc__)
