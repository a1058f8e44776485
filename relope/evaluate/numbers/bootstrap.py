"""Resamples shared by all methods: intervals and paired differences of whatever is made from them.

Choice: whole groups (samples that share an image) are drawn with replacement, since their
outcomes are not independent. A drawn group is an integer weight on its samples, so each method is
sorted once and a resample's AUC is one cumulative sum. Intervals are 95 % percentile intervals.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from relope.errors import InvalidInputError
from relope.evaluate.numbers.metrics import Bools, Floats
from relope.evaluate.numbers.ranking import Ranking, rank, weighted_auc

CHUNK_BYTES = 8 * 2**20
"""Size of one weight matrix; about five of them live at once."""

Interval = tuple[float, float]
"""Lower and upper bound."""


@dataclass(frozen=True)
class Difference:
    """A paired difference: its value, 95 % interval and two-sided p-value."""

    value: float
    ci95: Interval
    p: float


@dataclass(frozen=True)
class ResampledAuc:
    """One AUC, a mean of AUCs, or a difference: its value and ``[R]`` resamples; NaN where undefined."""

    value: float
    resampled: Floats

    @property
    def known(self) -> float | None:
        """Return the value, None where it is undefined."""
        return self.value if np.isfinite(self.value) else None

    @property
    def ci95(self) -> Interval | None:
        """Return the 95 % interval, None where the value or all resamples are undefined."""
        return percentile_interval(self.resampled) if self.known is not None else None

    def minus(self, other: "ResampledAuc") -> "ResampledAuc":
        """Return the difference, resample by resample."""
        return ResampledAuc(self.value - other.value, self.resampled - other.resampled)

    def test(self) -> Difference | None:
        """Return the value with its interval and p-value against 0."""
        return difference(self.value, 0.0, self.resampled, np.zeros_like(self.resampled))


UNKNOWN = ResampledAuc(float("nan"), np.full(1, np.nan))
"""What was not run; its one resample goes with any number of others."""


def mean_auc(aucs: Sequence[ResampledAuc]) -> ResampledAuc:
    """Return the mean of several AUCs; undefined when one of them is."""
    if not aucs:
        return UNKNOWN
    value = float(np.mean([auc.value for auc in aucs]))
    return ResampledAuc(value, np.mean(np.broadcast_arrays(*(auc.resampled for auc in aucs)), axis=0))


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
    return Difference(float(first - second), bounds, min(1.0, 2.0 * (tail + 1) / (len(drawn) + 1)))


def percentile_interval(values: Floats) -> Interval | None:
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
) -> list[ResampledAuc]:
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
    return bootstrap_rankings([[rank(correct, row)] for row in scores], groups, resamples, seed)


def bootstrap_rankings(
    methods: Sequence[Sequence[Ranking]], groups: npt.NDArray[np.str_], resamples: int, seed: int
) -> list[ResampledAuc]:
    """Return each method's AUC, the mean over its rankings (one a seed); all share the resamples."""
    whole = np.ones((len(groups), 1))
    values = [float(np.mean([weighted_auc(ranking, whole)[0] for ranking in seeds])) for seeds in methods]
    drawn = [
        [np.mean([weighted_auc(ranking, weights) for ranking in seeds], axis=0) for seeds in methods]
        for weights in resample_weights(groups, resamples, seed)
    ]
    return [ResampledAuc(value, np.concatenate(chunks)) for value, *chunks in zip(values, *drawn, strict=True)]
