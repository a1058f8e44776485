"""Every number that a report quotes for a method, under any weighting of the samples.

The value on all samples is the one with every weight 1, and a resample is an integer weight on
each sample, so a value and its interval can never come from two formulas.
"""

from dataclasses import dataclass

import numpy as np

from relope.evaluate.numbers.metrics import Bools, Floats, Ints, mass_bins
from relope.evaluate.numbers.ranking import Ranking, area_and_tpr, rank
from relope.evaluate.numbers.routing import MARKS, delta, escalation_order, mark_key

FALSE_POSITIVES = (1, 5)
"""Percent of wrong answers kept at which the share of right answers kept is quoted."""

RECOVERED = (50, 80)
"""Percent of the performance gap recovered at which CPT is quoted. Source: RouteLLM §3."""

Values = dict[str, Floats]


@dataclass(frozen=True)
class Labels:
    """What came true on N samples: ``[N]`` of the small model, and of the large one if it was run."""

    correct: Bools
    large: Bools | None
    seed: int

    @property
    def better(self) -> bool:
        """Return whether the large model is right more often: without that there is no gap to recover."""
        return self.large is not None and int(self.large.sum()) > int(self.correct.sum())


@dataclass(frozen=True)
class Prepared:
    """One method's scores, sorted and binned once.

    Attributes:
        calibrated: ``[N]`` cross-fitted isotonic scores.
        order: ``[N]`` places, lowest score first.
        ranking: right answers among the wrong ones.
        squares: ``[2, N]`` squared errors of the scores and of the calibrated ones.
        excess: of each of the two, ``[bins, N]`` score minus outcome, in the row of the sample's bin.
    """

    calibrated: Floats
    order: Ints
    ranking: Ranking
    squares: Floats
    excess: tuple[Floats, Floats]

    @classmethod
    def of(cls, score: Floats, calibrated: Floats, labels: Labels) -> "Prepared":
        """Sort."""
        both = np.stack([score, calibrated])
        return cls(
            calibrated,
            escalation_order(score, labels.seed),
            rank(labels.correct, score),
            (both - labels.correct) ** 2,
            (_binned(labels.correct, score), _binned(labels.correct, calibrated)),
        )


def names() -> list[str]:
    """Return the names of all statistics, in the order in which they are reported."""
    return [
        "auc",
        *(f"tpr_at_fpr_{percent}" for percent in FALSE_POSITIVES),
        *(f"accuracy_at_{mark_key(mark)}" for mark in MARKS),
        *(f"gain_over_random_at_{mark_key(mark)}" for mark in MARKS),
        *(f"pgr_at_{mark_key(mark)}" for mark in MARKS),
        "apgr",
        *(f"cpt_{percent}" for percent in RECOVERED),
        "qnc",
        "aurc",
        "auarc",
        "brier",
        "ece",
        "brier_calibrated",
        "ece_calibrated",
    ]


def statistics(labels: Labels, method: Prepared, weights: Floats) -> Values:
    """Return name → ``[r]`` for each column of ``[N, r]`` weights; NaN where undefined."""
    found: Values = {}
    found["auc"], *rates = area_and_tpr(method.ranking, weights, [percent / 100 for percent in FALSE_POSITIVES])
    found.update({f"tpr_at_fpr_{percent}": rate for percent, rate in zip(FALSE_POSITIVES, rates, strict=True)})
    found.update(_along_the_queue(labels, method, weights))
    n = weights.sum(axis=0)
    squares = method.squares @ weights / n
    for suffix, error, excess in zip(("", "_calibrated"), squares, method.excess, strict=True):
        found[f"brier{suffix}"] = error
        found[f"ece{suffix}"] = np.abs(excess @ weights).sum(axis=0) / n
    return found


def _binned(correct: Bools, score: Floats) -> Floats:
    """Return ``[bins, N]`` score minus outcome in the row of each sample's bin, 0 elsewhere.

    A resample keeps the bins of the samples that it is drawn from.
    """
    number = mass_bins(score)
    inside = np.zeros((int(number.max()) + 1, len(score)))
    inside[number, np.arange(len(score))] = score - correct
    return inside


def _along_the_queue(labels: Labels, method: Prepared, weights: Floats) -> Values:
    """Return what depends on who leaves first: the samples stand in a queue, lowest score first."""
    order = method.order
    queue = weights[order]
    reached = np.cumsum(queue, axis=0)
    worth = delta(labels.correct, labels.large)[order][:, None]
    gained = np.cumsum(queue * worth, axis=0)
    n, small = reached[-1], labels.correct @ weights
    found = _accuracies(labels, reached, gained, worth, small)
    found["aurc"] = _aurc(~labels.correct[order], queue, reached)
    found["auarc"] = 1 - found["aurc"]
    gap = gained[-1] if labels.large is not None else np.zeros_like(n)
    defined = gap > 0
    nothing = np.full(n.shape, np.nan)
    for mark in MARKS:
        lead = found[f"accuracy_at_{mark_key(mark)}"] - small / n
        found[f"pgr_at_{mark_key(mark)}"] = np.divide(lead * n, gap, out=nothing.copy(), where=defined)
    remaining = n - reached
    remaining += queue / 2
    area = np.einsum("nr,nr->r", queue * worth, remaining)
    found["apgr"] = np.divide(area, n * gap, out=nothing.copy(), where=defined)
    for name, share in [*((f"cpt_{percent}", percent / 100) for percent in RECOVERED), ("qnc", 1.0)]:
        found[name] = np.where(defined, _first(reached, gained, worth, share * gap) / n, np.nan)
    return found


def _accuracies(labels: Labels, reached: Floats, gained: Floats, worth: Floats, small: Floats) -> Values:
    n, found, columns = reached[-1], {}, np.arange(reached.shape[1])
    large = small + gained[-1] if labels.large is not None else small
    for mark in MARKS:
        k = np.ceil(mark * n / 100)
        last = np.minimum((reached < k).sum(axis=0), len(reached) - 1)
        right = small + gained[last, columns] - worth[last, 0] * (reached[last, columns] - k)
        counted = n if labels.large is not None else n - k
        accuracy = np.divide(right, counted, out=np.full(n.shape, np.nan), where=counted > 0)
        found[f"accuracy_at_{mark_key(mark)}"] = accuracy
        found[f"gain_over_random_at_{mark_key(mark)}"] = accuracy - (small + (large - small) * mark / 100) / n
    return found


def _first(reached: Floats, gained: Floats, worth: Floats, target: Floats) -> Floats:
    """Return ``[r]`` how far the queue must go until the gain first reaches the target."""
    columns = np.arange(reached.shape[1])
    # The last entry counts as reached: rounding must not hide that everything escalated is the large model.
    there = gained >= target - 1e-9
    place = np.where(there.any(axis=0), there.argmax(axis=0), len(gained) - 1)
    step = np.maximum(worth[place, 0], 1e-12)
    beyond = np.maximum(gained[place, columns] - target, 0) / step
    return np.asarray(np.maximum(reached[place, columns] - beyond, 0))


def _aurc(wrong: Bools, queue: Floats, reached: Floats) -> Floats:
    """Return ``[r]`` areas under the risk–coverage curve: the mean, over k, of the error among the k surest.

    A wrong answer at place j from the top counts 1/k in every k ≥ j: H_n − H_{j−1} in all, with H the
    harmonic numbers, of which ``sums[m]`` adds up the first m.
    """
    n = reached[-1].astype(np.int64)
    harmonic = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, n.max() + 1))])
    sums = np.concatenate([[0.0], np.cumsum(harmonic)])
    after = (n - reached[wrong]).astype(np.int64)
    times = queue[wrong]
    spread = times * harmonic[n] - sums[after + times.astype(np.int64)] + sums[after]
    return np.asarray(spread.sum(axis=0) / n)
