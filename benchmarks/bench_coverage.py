"""Simulate what intervals and verdicts promise: ``python benchmarks/bench_coverage.py [--json] [--quick]``.

Scores of n answers, of which a given number are wrong, are drawn from normal distributions whose AUC is known (0.5,
0.76 and 0.92, pooled). A 95 % interval of an AUC should hold the truth in 93 to 97 % of the runs from 5 wrong answers
on, one of a difference in 93 % or more, and two methods that are equally good should be called different in at most
5.5 %, from one wrong answer on. Accuracies are pooled over how many answers are wrong: a share of few samples takes few
values, so single cells swing. `groups` are three samples of one image, whose scores share half of their variance. From
200 groups with the rarer class the bootstrap answers (500 resamples here), below it the closed form. Ten minutes on two
cores.
"""

import os

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS"), "1"))

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
import numpy.typing as npt
from figures import Figure, main, share_within

from relope.evaluate.numbers.bootstrap import bootstrap_auc
from relope.evaluate.numbers.estimates import RESAMPLED_FROM, Estimate
from relope.evaluate.numbers.resampled import resample
from relope.evaluate.numbers.significance import judged
from relope.evaluate.numbers.statistics import Labels, SortedScores

SIZES = {
    20: (1, 3, 5, 10),
    60: (1, 5, 10, 30),
    300: (1, 2, 3, 5, 10, 20, 30, 90, 150),
    3000: (1, 5, 10, 30, 90, 300, 1500),
}
"""Samples → how many of them are wrong."""

STRENGTHS = (0.0, 1.0, 2.0)
"""How many standard deviations apart right and wrong answers score."""

PER_GROUP = {"alone": 1, "groups": 3}
COVERED, DIFFERENT = (0.93, 0.97), 0.055
RESAMPLES = 500
LARGE = 0.9
"""How often the large model is right."""

QUESTIONS = 1_000_000
"""Samples that stand for all there are, on which an accuracy at a share is taken as known."""


@dataclass(frozen=True)
class Cell:
    """One simulated situation and how often it is drawn."""

    kind: str
    n: int
    wrong: int
    runs: int

    @property
    def name(self) -> str:
        """Return what its figures are called."""
        return f"{self.kind}_n{self.n}_wrong{self.wrong}"


@dataclass(frozen=True)
class Drawn:
    """Answers and the scores of two methods: ``[N]`` and ``[2, N]``."""

    correct: npt.NDArray[np.bool_]
    scores: npt.NDArray[np.float64]
    groups: npt.NDArray[np.str_]


def draw(cell: Cell, strengths: tuple[float, float], rng: np.random.Generator) -> Drawn:
    """Draw answers, exactly so many of them wrong, and two methods that share half of their noise."""
    n, per_group = cell.n, PER_GROUP[cell.kind]
    correct = np.ones(n, bool)
    correct[rng.choice(n, cell.wrong, replace=False)] = False
    group = rng.permutation(np.arange(n) // per_group)

    def noise() -> npt.NDArray[np.float64]:
        alone = rng.normal(size=n)
        return alone if per_group == 1 else (rng.normal(size=n)[group] + alone) / np.sqrt(2)

    shared = noise()
    scores = [(shared + noise()) / np.sqrt(2) + strength * correct for strength in strengths]
    return Drawn(correct, np.stack(scores), group.astype(str))


def auc_of(strength: float) -> float:
    """Return the AUC of normal scores so many deviations apart."""
    return NormalDist().cdf(strength / np.sqrt(2))


def holds(estimate: Estimate, truth: float) -> bool:
    """Return whether the 95 % interval holds the truth."""
    low, high = estimate.ci95 or (1.0, 0.0)
    return low <= truth <= high


def called_different(gap: Estimate) -> bool:
    """Return whether the verdict on a difference names a direction; only where 0 lies outside its interval can it."""
    verdict = None if holds(gap, 0.0) else judged(gap.test())
    return verdict is not None and verdict.verdict in ("higher", "lower")


def simulate(cell: Cell) -> Counter[str]:
    """Return how often intervals of an AUC and of a difference held the truth, and equal methods were told apart."""
    counts: Counter[str] = Counter()
    rng = np.random.default_rng([cell.n, cell.wrong, PER_GROUP[cell.kind]])
    resamples = RESAMPLES if cell.wrong >= RESAMPLED_FROM else 1  # below it nothing looks at them
    for number in range(cell.runs):
        for strength in STRENGTHS:
            equal = draw(cell, (strength, strength), rng)
            first, second = bootstrap_auc(equal.correct, equal.scores, equal.groups, resamples, number)
            counts["runs"] += 1
            counts["auc"] += holds(first, auc_of(strength))
            counts["different"] += called_different(first.minus(second))
            other = draw(cell, (strength, strength + 0.5), rng)
            first, second = bootstrap_auc(other.correct, other.scores, other.groups, resamples, number)
            counts["difference"] += holds(second.minus(first), auc_of(strength + 0.5) - auc_of(strength))
    return counts


def draw_by_chance(cell: Cell, rng: np.random.Generator, n: int) -> tuple[Drawn, npt.NDArray[np.bool_]]:
    """Draw answers that are wrong as often as the cell says on average, and whether a large model is right."""
    per_group = PER_GROUP[cell.kind]
    group = np.arange(n) // per_group
    shared, alone = rng.normal(size=n)[group], rng.normal(size=n)
    ease = alone if per_group == 1 else (shared + alone) / np.sqrt(2)
    correct = ease > NormalDist().inv_cdf(cell.wrong / cell.n)
    return Drawn(correct, (rng.normal(size=n) + correct)[None], group.astype(str)), rng.random(n) < LARGE


def simulate_accuracies(cell: Cell) -> Counter[str]:
    """Return how often intervals of accuracies held the truth."""
    counts: Counter[str] = Counter()
    rng = np.random.default_rng([cell.n, cell.wrong, PER_GROUP[cell.kind], 1])
    every, large = draw_by_chance(cell, rng, QUESTIONS)
    escalated = every.scores[0] < np.quantile(every.scores[0], 0.2)
    truth = float(np.where(escalated, large, every.correct).mean())
    resamples = RESAMPLES if cell.n >= 2 * RESAMPLED_FROM else 1  # below it nothing looks at them
    for number in range(cell.runs):
        drawn, large = draw_by_chance(cell, rng, cell.n)
        labels, score = Labels(drawn.correct, large, number), drawn.scores[0]
        resampled = resample(drawn.groups, labels, [[SortedScores.of(score, score, labels)]], resamples)
        counts["runs"] += 1
        counts["accuracy"] += holds(resampled.small, 1 - cell.wrong / cell.n)
        counts["accuracy_at_0.2"] += holds(resampled.estimates["accuracy_at_0.2"][0], truth)
    return counts


def cells(quick: bool) -> Iterator[Cell]:
    """Return every situation; what resamples takes fewer runs."""
    for kind in PER_GROUP:
        for n, several in SIZES.items():
            for wrong in several:
                runs = 1000 if wrong < RESAMPLED_FROM else 300 if n < 3000 else 100
                yield Cell(kind, n, wrong, 3 if quick else runs)


def measure(quick: bool) -> dict[str, Figure]:
    """Return name → figure."""
    situations = list(cells(quick))
    by_chance = [replace(cell, runs=min(cell.runs, 500)) for cell in situations if cell.n < 3000 and cell.wrong >= 5]
    with ProcessPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        ranked = list(zip(situations, pool.map(simulate, situations), strict=True))
        shares: dict[str, Counter[str]] = {}
        for cell, counts in zip(by_chance, pool.map(simulate_accuracies, by_chance), strict=True):
            shares.setdefault(f"{cell.kind}_n{cell.n}", Counter()).update(counts)
    figures: dict[str, Figure] = {}
    for cell, counts in ranked:
        runs = counts["runs"]
        if cell.wrong >= 5:
            figures[f"auc_{cell.name}"] = share_within(counts["auc"], runs, *COVERED)
            figures[f"difference_{cell.name}"] = share_within(counts["difference"], runs, COVERED[0], 1)
        figures[f"called_different_{cell.name}"] = share_within(counts["different"], runs, 0, DIFFERENT)
    for where, counts in shares.items():
        for name in ("accuracy", "accuracy_at_0.2"):
            figures[f"{name}_{where}"] = share_within(counts[name], counts["runs"], *COVERED)
    return figures


if __name__ == "__main__":
    main(measure, __doc__)
