"""Time a whole evaluation against a loop over scikit-learn: ``python benchmarks/bench_evaluate.py [--json] [--quick]``.

Ten methods, 10,000 samples, 2,000 resamples, one thread, three minutes: every statistic of a report with its interval,
paired differences, calibration and slices. The loop is scikit-learn's AUC alone, once a method and resample; it takes
20 resamples and is counted for all. Seconds are CPU seconds of this process, which other work on the machine does not
lengthen much.

Then the same of 200,000 samples, report and page written, on all cores in a process of its own: seconds on the clock
and the most memory that it held. Of so many the variances of AUCs and their differences come in closed form; `sd_…`
says how far from 1 their ratio to the bootstrap's is, on 10,000 samples and 10,000 resamples.
"""

import os

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS"), "1"))

import json
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from figures import Figure, at_least, at_most, main, ratios, rounds
from sklearn.metrics import roc_auc_score

from relope.evaluate.numbers.analysis import analyse
from relope.evaluate.numbers.bootstrap import bootstrap_auc, resample_weights
from relope.evaluate.numbers.estimates import Population, auc_term
from relope.evaluate.numbers.inputs import MethodScores, ReportInputs
from relope.evaluate.numbers.ranking import rank

METHODS = 10


@dataclass(frozen=True)
class Sizes:
    """How much is evaluated, and how many resamples scikit-learn takes."""

    samples: int = 10_000
    resamples: int = 2_000
    loop: int = 20
    many: int = 200_000
    draws: int = 10_000


QUICK = Sizes(samples=300, resamples=40, loop=5, many=2000, draws=200)


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


def many() -> None:
    """Write the report of many samples, and print what it took; run in a process of its own."""
    from relope.evaluate.report import build_report

    os.environ.pop("OMP_NUM_THREADS")  # as a user's process has it
    inputs = made_inputs(Sizes(samples=int(sys.argv[1])))
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        build_report(inputs, Path(folder))
        seconds = time.perf_counter() - begun
    gigabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    sys.stdout.write(json.dumps({"seconds": seconds, "gigabytes": gigabytes}))


def of_many(n: int) -> dict[str, float]:
    """Return seconds and peak memory of the report of n samples."""
    command = [sys.executable, "-c", "import bench_evaluate; bench_evaluate.many()", str(n)]
    done = subprocess.run(command, cwd=Path(__file__).parent, check=True, capture_output=True, text=True)
    told: dict[str, float] = json.loads(done.stdout)
    return told


def spread_gaps(inputs: ReportInputs, draws: int) -> dict[str, Figure]:
    """Return how far the closed form's standard deviations are from the bootstrap's."""
    population = Population.of(inputs.groups, 0)
    drawn = bootstrap_auc(inputs.correct, inputs.scores, inputs.groups, draws, 0)
    influence = [auc_term(rank(inputs.correct, row), population).influence for row in inputs.scores]
    first, *others = range(len(drawn))
    auc = [np.linalg.norm(mine) / estimate.resampled.std() for mine, estimate in zip(influence, drawn, strict=True)]
    gap = [
        np.linalg.norm(influence[other] - influence[first]) / drawn[other].minus(drawn[first]).resampled.std()
        for other in others
    ]
    return {
        "sd_of_auc_closed_over_bootstrap_off_1": at_most(float(np.abs(np.array(auc) - 1).max()), 0.02),
        "sd_of_difference_closed_over_bootstrap_off_1": at_most(float(np.abs(np.array(gap) - 1).max()), 0.02),
    }


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
    large = of_many(sizes.many)
    return {
        "many_seconds": at_most(large["seconds"], 60),
        "many_gigabytes": at_most(large["gigabytes"], 1.5),
        **spread_gaps(inputs, sizes.draws),
        "evaluation_seconds": at_most(seconds["whole"], 15),
        "auc_speedup_over_sklearn": at_least(ratios(loops, seconds["aucs"]), 20),
        "evaluation_speedup_over_sklearn_aucs": at_least(ratios(loops, seconds["whole"]), 1),
        "largest_disagreement": at_most(float(max(gaps)), 1e-12),
    }


if __name__ == "__main__":
    main(measure, __doc__)
