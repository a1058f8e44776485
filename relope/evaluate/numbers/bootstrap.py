"""Resamples shared by all methods: intervals and paired differences of whatever is made from them.

Choice: whole groups (samples that share an image) are drawn with replacement, since their
outcomes are not independent. A drawn group is an integer weight on its samples, so each method is
sorted once and a resample's AUC is one cumulative sum. Intervals are 95 % percentile intervals.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from relope.errors import InvalidInputError
from relope.evaluate.numbers.estimates import Estimate, Population, auc_term, mean_of
from relope.evaluate.numbers.metrics import Bools, Floats, Groups
from relope.evaluate.numbers.ranking import Ranking, rank, weighted_auc

CHUNK_BYTES = 8 * 2**20
"""Size of one weight matrix; about five of them live at once."""

MANY = 20_000
"""Samples above which AUCs and their differences get their variance in closed form, and the rest fewer resamples."""

DRAWN = 20_000_000
"""Choice: samples drawn in all when there are many, which takes a method some seconds."""

LEAST_DRAWS = 100
"""Resamples of which a standard deviation is off by 7 %; fewer are not taken."""


def resample_weights(groups: Groups, resamples: int, seed: int) -> Iterator[Floats]:
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


def draws_for(n: int, asked: int) -> int:
    """Return the resamples that N samples take: as many as asked for up to ``MANY`` samples, then ever fewer."""
    return asked if n <= MANY else min(asked, max(LEAST_DRAWS, DRAWN // n))


def bootstrap_auc(
    correct: Bools, scores: Floats, groups: Groups, resamples: int = 2000, seed: int = 0
) -> list[Estimate]:
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
    methods: Sequence[Sequence[Ranking]], groups: Groups, resamples: int, seed: int
) -> list[Estimate]:
    """Return each method's AUC, the mean over its rankings (one a seed); all share the resamples.

    Of more than ``MANY`` samples none are drawn: the variance is taken in closed form.
    """
    population = Population.of(groups, seed)
    singles = [[ranking_estimate(ranking, population) for ranking in seeds] for seeds in methods]
    if len(groups) > MANY:
        return [mean_of(seeds) for seeds in singles]
    drawn = [
        [np.mean([weighted_auc(ranking, weights) for ranking in seeds], axis=0) for seeds in methods]
        for weights in resample_weights(groups, resamples, seed)
    ]
    return [
        replace(mean_of(seeds), resampled=np.concatenate(chunks))
        for seeds, *chunks in zip(singles, *drawn, strict=True)
    ]


def ranking_estimate(ranking: Ranking, population: Population) -> Estimate:
    """Return the AUC of a ranking without resamples; undefined when one class is absent."""
    value = float(weighted_auc(ranking, np.ones((len(population.number), 1)))[0])
    terms = ((1.0, auc_term(ranking, population)),) if np.isfinite(value) else ()
    return Estimate(value, terms, None)
