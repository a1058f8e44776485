"""Time a whole evaluation against a loop over scikit-learn: ``python benchmarks/bench_evaluate.py [--json] [--quick]``.

Ten methods, 10,000 samples, 2,000 resamples, one thread, two minutes: every statistic of a report with its interval,
paired differences, calibration and slices. The loop is scikit-learn's AUC alone, once a method and resample; it takes
20 resamples and is counted for all. Seconds are CPU seconds of this process, which other work on the machine does not
lengthen much.
"""

import os

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS"), "1"))

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from figures import Figure, at_least, at_most, main, ratios, rounds
from sklearn.metrics import roc_auc_score

from relope.evaluate.numbers.analysis import analyse
from relope.evaluate.numbers.bootstrap import bootstrap_auc, resample_weights
from relope.evaluate.numbers.inputs import MethodScores, ReportInputs

METHODS = 10


@dataclass(frozen=True)
class Sizes:
    """How much is evaluated, and how many resamples scikit-learn takes."""

    samples: int = 10_000
    resamples: int = 2_000
    loop: int = 20


QUICK = Sizes(samples=300, resamples=40, loop=5)


def made_inputs(sizes: Sizes) -> ReportInputs:
    """Return a report's inputs with half of the methods full of ties."""
    rng = np.random.default_rng(0)
    n = sizes.samples
    correct = rng.random(n) < 0.6
    scores = np.clip(rng.normal(0.5 + 0.1 * correct, 0.15, (METHODS, n)), 0, 1)
    scores[METHODS // 2 :] = scores[METHODS // 2 :].round(2)
    columns = {
        "id": [f"s{number}" for number in range(n)],
        "split": ["test"] * n,
        "group": [f"g{number}" for number in rng.integers(0, n // 2, n)],
        "correct": correct,
        "question": ["what ?"] * n,
        "response": ["that"] * n,
        "answers": [["this"]] * n,
        "dataset": ["made"] * n,
    }
    names = ["probe", *(f"method-{number}" for number in range(1, METHODS))]
    return ReportInputs(
        title="",
        what="",
        small_name="small",
        large_name="large",
        dataset="made",
        labels=pl.DataFrame(columns),
        methods=[MethodScores(name, row) for name, row in zip(names, scores, strict=True)],
        large_correct=rng.random(n) < 0.85,
        resamples=sizes.resamples,
        seed=1,
    )


def measure(quick: bool) -> dict[str, Figure]:
    """Return name → figure."""
    sizes = QUICK if quick else Sizes()
    inputs = made_inputs(sizes)
    weights = next(resample_weights(inputs.groups, sizes.loop, inputs.seed))
    results: dict[str, Any] = {}

    def whole() -> None:
        results["whole"] = analyse(inputs).resampled.drawn["auc"]

    def aucs() -> None:
        drawn = bootstrap_auc(inputs.correct, inputs.scores, inputs.groups, sizes.resamples, inputs.seed)
        results["aucs"] = np.stack([auc.resampled for auc in drawn])

    def loop() -> None:
        results["loop"] = [
            [roc_auc_score(inputs.correct, row, sample_weight=column) for column in weights.T] for row in inputs.scores
        ]

    seconds = rounds({"whole": whole, "aucs": aucs, "loop": loop}, clock=time.process_time)
    loops = [once * sizes.resamples / sizes.loop for once in seconds["loop"]]
    gaps = (
        np.abs(np.array(results["loop"]) - results["whole"][:, : sizes.loop]).max(),
        np.abs(results["aucs"] - results["whole"]).max(),
    )
    return {
        "evaluation_seconds": at_most(seconds["whole"], 15),
        "auc_speedup_over_sklearn": at_least(ratios(loops, seconds["aucs"]), 20),
        "evaluation_speedup_over_sklearn_aucs": at_least(ratios(loops, seconds["whole"]), 1),
        "largest_disagreement": at_most(float(max(gaps)), 1e-12),
    }


if __name__ == "__main__":
    main(measure, __doc__)
