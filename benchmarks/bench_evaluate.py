"""Time the AUC bootstrap against a loop over scikit-learn: ``python benchmarks/bench_evaluate.py [--json]``."""

import argparse
import json
import sys
import time

import numpy as np
from sklearn.metrics import roc_auc_score

from relope.evaluate.bootstrap import bootstrap_auc, resample_weights

METHODS, SAMPLES, RESAMPLES, LOOP = 10, 10_000, 2_000, 20
Result = dict[str, dict[str, float | bool | str]]


def measure() -> Result:
    """Return ``{name: {value, goal, met}}``."""
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
        "bootstrap_seconds": {"value": round(seconds, 3), "goal": "<= 15", "met": seconds <= 15},
        "speedup_over_sklearn": {"value": round(loop / seconds, 1), "goal": ">= 20", "met": loop / seconds >= 20},
        "largest_disagreement": {"value": gap, "goal": "<= 1e-12", "met": gap <= 1e-12},
    }


def main() -> None:
    """Measure and show; exit with 1 when a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="write only JSON")
    arguments = parser.parse_args()
    result = measure()
    if arguments.json:
        sys.stdout.write(json.dumps(result, indent=2) + "\n")
    else:
        for name, row in result.items():
            sys.stdout.write(f"{name:24} {row['value']:>12} (goal {row['goal']}) {'met' if row['met'] else 'MISSED'}\n")
    sys.exit(0 if all(row["met"] for row in result.values()) else 1)


if __name__ == "__main__":
    main()
