"""What a threshold can promise on queries to come: exact bounds from order statistics and binomial tests.

A query is escalated when its score lies below the threshold. Samples that share an image are not independent, so of
each group one sample counts (`independent`), and what is promised is promised of one query of each group: where groups
of many queries are harder than those of few, it may be broken over all queries (`over_all`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from relope.evaluate.numbers.metrics import Bools, Floats, Groups, Ints
from relope.evaluate.numbers.thresholds import percent_thresholds

SHARE, ERROR, ACCURACY = "share escalated", "error among kept", "accuracy of the system"
"""What can be promised."""


@dataclass(frozen=True)
class Promise:
    """A threshold with what holds for it, or what hinders that.

    Attributes:
        holds: what is promised: `SHARE`, `ERROR` or `ACCURACY`.
        bound: what it stays below (above, for an accuracy).
        confidence: that the promise is kept, over the drawing of the calibration samples.
        n: independent samples that it rests on.
        threshold: scores below it are escalated; None where nothing can be promised.
        observed: the promised quantity on the calibration samples at the threshold; None without one.
        n_needed: samples that would do if they looked like these; None where none would, or n is enough.
        on_all: the promised quantity where every sample of each group counts; None where each has one.
    """

    holds: str
    bound: float
    confidence: float
    n: int
    threshold: float | None
    observed: float | None
    n_needed: int | None
    on_all: float | None = None

    @property
    def broken_on_all(self) -> bool:
        """Whether the bound does not hold where every sample of each group counts."""
        if self.on_all is None:
            return False
        return self.on_all < self.bound if self.holds == ACCURACY else self.on_all > self.bound


def independent(groups: Groups, seed: int) -> Ints:
    """Return the indices of one sample of each group, drawn at random."""
    shuffled = np.random.default_rng(seed).permutation(len(groups))
    _, first = np.unique(groups[shuffled], return_index=True)
    return np.sort(shuffled[first])


def promise_budget(scores: Floats, budget: float, confidence: float) -> Promise:
    """Return the highest threshold whose escalated share stays within a budget.

    The k-th lowest of n scores has a share below it that is at most a Beta(k, n - k + 1), whatever the scores'
    distribution; it is within the budget when at least k of n uniform numbers are.

    Args:
        scores: ``[N]`` of independent samples.
        budget: share in (0, 1).
        confidence: in (0, 1).

    Source: Wilks 1941, tolerance limits from order statistics.
    """
    from scipy.stats import binom

    n = len(scores)
    ranks = np.arange(1, n + 1)
    kept = ranks[binom.sf(ranks - 1, n, budget) >= confidence]
    if not len(kept):
        needed = int(np.ceil(np.log1p(-confidence) / np.log1p(-budget)))
        return Promise(SHARE, budget, confidence, n, None, None, needed)
    threshold = float(np.sort(scores)[kept[-1] - 1])
    return Promise(SHARE, budget, confidence, n, threshold, float((scores < threshold).mean()), None)


def over_all(promise: Promise, scores: Floats, right: Bools, large_right: Bools | None = None) -> float | None:
    """Return the promised quantity over samples at the promise's threshold; None where it is of none of them.

    Args:
        promise: that was made.
        scores: ``[N]``, whether the samples are independent or not.
        right: ``[N]`` whether the small model's answer is.
        large_right: ``[N]`` whether the large model's is; an accuracy needs it.
    """
    below = scores < (np.nan if promise.threshold is None else promise.threshold)
    if promise.holds == SHARE:
        counted = below
    elif promise.holds == ERROR or large_right is None:
        counted = ~right[~below]
    else:
        counted = np.where(below, large_right, right)
    return float(counted.mean()) if len(counted) else None


def promise_error(scores: Floats, wrong: Bools, bound: float, confidence: float) -> Promise:
    """Return the threshold that keeps the most while the share of wrong answers among the kept stays within a bound.

    Args:
        scores: ``[N]`` of independent samples.
        wrong: ``[N]`` whether the small model's answer is.
        bound: share in (0, 1).
        confidence: in (0, 1).
    """
    thresholds = percent_thresholds(scores)[::-1]  # the safest first
    kept = scores >= thresholds[:, None]
    return _promise(ERROR, wrong & kept, kept, thresholds, bound, confidence)


def promise_accuracy(scores: Floats, right: Bools, large_right: Bools, bound: float, confidence: float) -> Promise:
    """Return the threshold that escalates the least while the system's accuracy stays above a bound.

    Args:
        scores: ``[N]`` of independent samples.
        right: ``[N]`` whether the small model's answer is.
        large_right: ``[N]`` whether the large model's is.
        bound: accuracy in (0, 1).
        confidence: in (0, 1).
    """
    thresholds = percent_thresholds(scores)[::-1]  # the safest first
    wrong = ~np.where(scores >= thresholds[:, None], right, large_right)
    promise = _promise(ACCURACY, wrong, np.ones_like(wrong), thresholds, 1 - bound, confidence)
    observed = None if promise.observed is None else 1 - promise.observed
    return Promise(promise.holds, bound, confidence, promise.n, promise.threshold, observed, promise.n_needed)


def fallback(p_values: Sequence[float], alpha: float) -> Bools:
    """Return which hypotheses of a fixed sequence are rejected, with a family-wise error of at most α.

    Each starts with an equal part of α and inherits what its predecessor was tested at if that was rejected, so a run
    of rejections soon tests at nearly α, and one failure does not end the sequence.

    Source: Wiens and Dmitrienko 2005, *The fallback procedure for evaluating a single family of hypotheses*.
    """
    rejected, level = np.zeros(len(p_values), dtype=bool), 0.0
    for step, p in enumerate(p_values):
        level = alpha / len(p_values) + (level if step and rejected[step - 1] else 0.0)
        rejected[step] = p <= level
    return rejected


def _promise(holds: str, wrong: Bools, counted: Bools, thresholds: Floats, bound: float, confidence: float) -> Promise:
    """Return the last threshold of the sequence whose error is shown to be within the bound.

    Args:
        holds: what is promised.
        wrong: ``[99, N]`` errors that count at each threshold.
        counted: ``[99, N]`` samples that count.
        thresholds: ``[99]``, the safest first.
        bound: of the share wrong.
        confidence: of the promise.

    Given the k-th lowest score, the samples above it are independent draws from above it, so each p-value is exact;
    the sequence is exact where the error does not rise with the score (`bench_guarantee.py` tries others too).
    """
    from scipy.stats import binom

    n_wrong, n = wrong.sum(axis=1), counted.sum(axis=1)
    shown = fallback(binom.cdf(n_wrong, n, bound), 1 - confidence)
    if not shown.any():
        needed = _needed(n_wrong / n, n / counted.shape[1], bound, 1 - confidence)
        return Promise(holds, bound, confidence, counted.shape[1], None, None, needed)
    last = int(np.flatnonzero(shown)[-1])
    observed = float(n_wrong[last] / n[last])
    return Promise(holds, bound, confidence, counted.shape[1], float(thresholds[last]), observed, None)


def _needed(error: Floats, share: Floats, bound: float, alpha: float) -> int | None:
    """Return the fewest samples of which one threshold would pass alone with today's errors; None where none would."""
    from scipy.stats import binom

    below = error < bound
    if not below.any():
        return None
    for n in np.unique(np.geomspace(10, 1e7, 400).astype(np.int64)):
        m = np.maximum(1, np.round(n * share[below]))
        if (binom.cdf(np.round(m * error[below]), m, bound) <= alpha / len(share)).any():
            return int(n)
    return None
