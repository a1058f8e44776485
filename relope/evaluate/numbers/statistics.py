"""Every number that a report quotes for a method, under any weighting of the samples.

The value on all samples is the one with every weight 1, and a resample is an integer weight on
each sample, so a value and its interval can never come from two formulas.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from relope.evaluate.numbers.metrics import Bools, Floats, Ints, mass_bins
from relope.evaluate.numbers.ranking import Ranking, area_and_tpr, rank
from relope.evaluate.numbers.routing import MARKS, delta, escalation_order, mark_key

if TYPE_CHECKING:
    from scipy.sparse import csr_array

FALSE_POSITIVES = (1, 5)
"""Percent of wrong answers kept at which the share of right answers kept is quoted."""

RECOVERED = (50, 80)
"""Percent of the performance gap recovered at which CPT is quoted. Source: RouteLLM §3."""

Values = dict[str, Floats]


@dataclass(frozen=True)
class Labels:
    """What came true on N samples: ``[N]`` of the small model, and of the large one if it was run.

    Attributes:
        marks: percent escalated at which accuracies are quoted.
    """

    correct: Bools
    large: Bools | None
    seed: int
    marks: Sequence[int] = MARKS


@dataclass(frozen=True)
class SortedScores:
    """One method's scores, sorted and binned once.

    Attributes:
        calibrated: ``[N]`` cross-fitted isotonic scores.
        order: ``[N]`` indices, lowest score first.
        ranking: right answers among the wrong ones.
        squares: ``[2, N]`` squared errors of the scores and of the calibrated ones.
        excess: of each of the two, sparse ``[bins, N]`` score minus outcome, in the row of the sample's bin.
    """

    calibrated: Floats
    order: Ints
    ranking: Ranking
    squares: Floats
    excess: "tuple[csr_array, csr_array]"

    @classmethod
    def of(cls, score: Floats, calibrated: Floats, labels: Labels) -> "SortedScores":
        """Sort."""
        both = np.stack([score, calibrated])
        return cls(
            calibrated,
            escalation_order(score, labels.seed),
            rank(labels.correct, score),
            (both - labels.correct) ** 2,
            (_binned(labels.correct, score), _binned(labels.correct, calibrated)),
        )


def names(marks: Sequence[int] = MARKS) -> list[str]:
    """Return the names of all statistics, in the order in which they are reported."""
    return [
        "auc",
        *(f"tpr_at_fpr_{percent}" for percent in FALSE_POSITIVES),
        *(f"accuracy_at_{mark_key(mark)}" for mark in marks),
        *(f"gain_over_random_at_{mark_key(mark)}" for mark in marks),
        *(f"pgr_at_{mark_key(mark)}" for mark in marks),
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


def statistics(labels: Labels, method: SortedScores, weights: Floats) -> Values:
    """Return name → ``[r]`` for each column of ``[N, r]`` weights; NaN where undefined."""
    values: Values = {}
    values["auc"], *rates = area_and_tpr(method.ranking, weights, [percent / 100 for percent in FALSE_POSITIVES])
    values.update({f"tpr_at_fpr_{percent}": rate for percent, rate in zip(FALSE_POSITIVES, rates, strict=True)})
    values.update(_along_the_queue(labels, method, weights))
    n = weights.sum(axis=0)
    squares = method.squares @ weights / n
    for suffix, error, excess in zip(("", "_calibrated"), squares, method.excess, strict=True):
        values[f"brier{suffix}"] = error
        values[f"ece{suffix}"] = np.abs(excess @ weights).sum(axis=0) / n
    return values


def _binned(correct: Bools, score: Floats) -> "csr_array":
    """Return ``[bins, N]`` score minus outcome in the row of each sample's bin.

    A resample keeps the bins of the samples that it is drawn from.
    """
    from scipy.sparse import csr_array

    number = mass_bins(score)
    return csr_array((score - correct, (number, np.arange(len(score)))), shape=(int(number.max()) + 1, len(score)))


def _along_the_queue(labels: Labels, method: SortedScores, weights: Floats) -> Values:
    """Return what depends on who leaves first: the samples stand in a queue, lowest score first.

    The router's choice is a cut of the queue: what stands before it is escalated. So the sums along
    it, of samples escalated and of right answers gained by that, hold the system at every cut, and
    one sort serves all resamples: a weight only makes a sample's step longer, never moves it.
    """
    order = method.order
    queue = weights[order]
    escalated = np.cumsum(queue, axis=0)
    worth = delta(labels.correct, labels.large)[order][:, None]
    gained = np.cumsum(queue * worth, axis=0)
    n, small = escalated[-1], labels.correct @ weights
    values = _accuracies(labels, escalated, gained, worth, small)
    values["aurc"] = _aurc(~labels.correct[order], queue, escalated)
    values["auarc"] = 1 - values["aurc"]
    # Escalating everything gains the whole gap between the models. Without a large model, or where it is right
    # no more often, there is none to recover, and a share of it would be a number about nothing.
    gap = gained[-1] if labels.large is not None else np.zeros_like(n)
    defined = gap > 0
    undefined = np.full(n.shape, np.nan)
    for mark in labels.marks:
        lead = values[f"accuracy_at_{mark_key(mark)}"] - small / n
        values[f"pgr_at_{mark_key(mark)}"] = np.divide(lead * n, gap, out=undefined.copy(), where=defined)
    # The area under the recovered share by trapezoids: what a sample gains counts for all cuts behind it, and for
    # half of its own step, on which the gain still rises.
    behind = n - escalated
    behind += queue / 2
    area = np.einsum("nr,nr->r", queue * worth, behind)
    values["apgr"] = np.divide(area, n * gap, out=undefined.copy(), where=defined)
    for name, share in [*((f"cpt_{percent}", percent / 100) for percent in RECOVERED), ("qnc", 1.0)]:
        values[name] = np.where(defined, _first(escalated, gained, worth, share * gap) / n, np.nan)
    return values


def _accuracies(labels: Labels, escalated: Floats, gained: Floats, worth: Floats, small: Floats) -> Values:
    n, columns = escalated[-1], np.arange(escalated.shape[1])
    large = small + gained[-1] if labels.large is not None else small
    values: Values = {}
    for mark in labels.marks:
        k = np.ceil(mark * n / 100)
        reached = [np.searchsorted(column, goal) for column, goal in zip(escalated.T, k, strict=True)]
        last = np.minimum(np.array(reached, dtype=np.int64), len(escalated) - 1)
        # Of the sample that the cut falls into, only the copies before the cut are escalated.
        right = small + gained[last, columns] - worth[last, 0] * (escalated[last, columns] - k)
        counted = n if labels.large is not None else n - k
        accuracy = np.divide(right, counted, out=np.full(n.shape, np.nan), where=counted > 0)
        values[f"accuracy_at_{mark_key(mark)}"] = accuracy
        values[f"gain_over_random_at_{mark_key(mark)}"] = accuracy - (small + (large - small) * k / n) / n
    return values


def _first(escalated: Floats, gained: Floats, worth: Floats, target: Floats) -> Floats:
    """Return ``[r]`` how far the queue must go until the gain first reaches the target."""
    columns = np.arange(escalated.shape[1])
    reached = gained >= target - 1e-9
    # The last entry counts as reached: rounding must not hide that everything escalated is the large model.
    index = np.where(reached.any(axis=0), reached.argmax(axis=0), len(gained) - 1)
    step = np.maximum(worth[index, 0], 1e-12)
    beyond = np.maximum(gained[index, columns] - target, 0) / step
    return np.asarray(np.maximum(escalated[index, columns] - beyond, 0))


def _aurc(wrong: Bools, queue: Floats, escalated: Floats) -> Floats:
    """Return ``[r]`` areas under the risk–coverage curve: the mean, over k, of the error among the k surest.

    A wrong answer at rank j from the top counts 1/k in every k ≥ j: H_n − H_{j−1} in all, with H the
    harmonic numbers, of which ``sums[m]`` adds up the first m. A sample drawn w times takes w ranks
    in a row, j … j+w−1, so their terms are w·H_n less a difference of two such sums: no loop over
    copies, and none over k, which would cost N² a resample.
    """
    n = escalated[-1].astype(np.int64)
    harmonic = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, n.max() + 1))])
    sums = np.concatenate([[0.0], np.cumsum(harmonic)])
    # The queue starts with the least sure: what stands behind a sample is surer, so it ranks above.
    above = (n - escalated[wrong]).astype(np.int64)
    times = queue[wrong]
    terms = times * harmonic[n] - sums[above + times.astype(np.int64)] + sums[above]
    return np.asarray(terms.sum(axis=0) / n)
