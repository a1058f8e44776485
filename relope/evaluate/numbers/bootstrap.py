"""Intervals and paired differences of AUCs, from one set of resamples shared by all methods.

Choice: whole groups (samples that share an image) are drawn with replacement, since their
outcomes are not independent. A drawn group is an integer weight on its samples, so each method is
sorted once and a resample's AUC is one cumulative sum. Intervals are 95 % percentile intervals.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from relope.errors import InvalidInputError
from relope.evaluate.numbers.metrics import Bools, Floats, auc
from relope.evaluate.numbers.ranking import rank, weighted_auc

CHUNK_BYTES = 8 * 2**20
"""Size of one weight matrix; about five of them live at once."""


@dataclass(frozen=True)
class Difference:
    """A paired difference to a baseline: its value, 95 % interval and two-sided p-value."""

    value: float
    low: float
    high: float
    p: float

    @property
    def verdict(self) -> str:
        """Return ``higher``, ``lower`` or ``no difference shown`` (the interval holds 0)."""
        if self.low > 0:
            return "higher"
        return "lower" if self.high < 0 else "no difference shown"


@dataclass(frozen=True)
class AucBootstrap:
    """AUCs of M methods and their resamples.

    Attributes:
        auc: per method, None where one class is absent.
        resampled: ``[M, R]`` AUCs of the R resamples that hold both classes.
        n_dropped: resamples left out since one class was absent.
    """

    auc: tuple[float | None, ...]
    resampled: Floats
    n_dropped: int

    def interval(self, method: int) -> tuple[float, float] | None:
        """Return the 95 % interval of one method's AUC, None where it is undefined."""
        return percentile_interval(self.resampled[method])

    def difference(self, method: int, baseline: int) -> Difference | None:
        """Return AUC(method) - AUC(baseline) over the same resamples, None where undefined."""
        first, second = self.auc[method], self.auc[baseline]
        if first is None or second is None:
            return None
        return difference(first, second, self.resampled[method], self.resampled[baseline])


def difference(first: float, second: float, drawn_first: Floats, drawn_second: Floats) -> Difference | None:
    """Return first - second with what the same resamples say about it; None where undefined.

    Choice: p = 2·min(P(d ≤ 0), P(d ≥ 0)) with one added to count and total, so it is never 0.
    """
    drawn = drawn_first - drawn_second
    drawn = drawn[np.isfinite(drawn)]
    bounds = percentile_interval(drawn)
    if not np.isfinite(first - second) or bounds is None:
        return None
    tail = min(int((drawn <= 0).sum()), int((drawn >= 0).sum()))
    return Difference(float(first - second), *bounds, min(1.0, 2.0 * (tail + 1) / (len(drawn) + 1)))


def percentile_interval(values: Floats) -> tuple[float, float] | None:
    """Return the 2.5 % and 97.5 % percentiles of the finite values, None when there are none."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        return None
    low, high = np.percentile(finite, (2.5, 97.5))
    return float(low), float(high)


def resample_weights(groups: npt.NDArray[np.str_], resamples: int, seed: int) -> Iterator[Floats]:
    """Yield ``[N, r]`` matrices of how often each sample is drawn, ``resamples`` columns in all.

    The same groups and seed always give the same columns, so every statistic that is made from
    them is paired.
    """
    _, inverse = np.unique(groups, return_inverse=True)
    n_groups = int(inverse.max()) + 1
    rng = np.random.default_rng(seed)
    size = max(1, CHUNK_BYTES // (8 * len(groups)))
    for start in range(0, resamples, size):
        r = min(size, resamples - start)
        drawn = rng.integers(0, n_groups, size=(r, n_groups)) + np.arange(r)[:, None] * n_groups
        counts = np.bincount(drawn.ravel(), minlength=r * n_groups).reshape(r, n_groups)
        yield np.ascontiguousarray(counts.T.astype(np.float64))[inverse]


def bootstrap_auc(
    correct: Bools, scores: Floats, groups: npt.NDArray[np.str_], resamples: int = 2000, seed: int = 0
) -> AucBootstrap:
    """Return the AUC of every method with the resamples that intervals and differences come from.

    Args:
        correct: ``[N]`` labels.
        scores: ``[M, N]``, one row a method.
        groups: ``[N]``; samples of one group are drawn together.
        resamples: number of draws R.
        seed: of the draws.

    Raises:
        InvalidInputError: lengths disagree, there are no samples, or ``resamples`` is below 1.
    """
    if scores.ndim != 2 or not len(correct) == len(groups) == scores.shape[1] or not len(correct):
        raise InvalidInputError(
            f"labels [{len(correct)}], groups [{len(groups)}] and scores {list(scores.shape)} do not match; "
            "pass N labels, N groups and M rows of N scores, N ≥ 1"
        )
    if resamples < 1:
        raise InvalidInputError(f"resamples is {resamples}; it must be at least 1 (2,000 is usual)")
    rankings = [rank(correct, row) for row in scores]
    found = [
        np.stack([weighted_auc(ranking, weights) for ranking in rankings])
        for weights in resample_weights(groups, resamples, seed)
    ]
    drawn = np.concatenate(found, axis=1)
    kept = np.isfinite(drawn).all(axis=0)
    return AucBootstrap(tuple(auc(correct, row) for row in scores), drawn[:, kept], int((~kept).sum()))
