"""AUCs, shares and their sums, with what intervals, differences and verdicts are made from.

An estimate is a sum of terms, each with an interval of its own and with what every image group adds to it. Where the
rarer class has enough groups and the estimate was resampled, resamples say how far it may move; at fewer groups and at
very many samples the terms do, in closed form (`intervals`).
"""

import functools
import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from relope.evaluate.numbers.intervals import (
    SHRINKAGE,
    Z95,
    Interval,
    auc_interval,
    combined_interval,
    design_effect,
    modelled_variance,
    p_of,
    share_bounds,
    student,
)
from relope.evaluate.numbers.metrics import Bools, Floats, Groups, Ints
from relope.evaluate.numbers.ranking import Ranking, auc_influence

RESAMPLED_FROM = 200
"""Choice: groups of the rarer class from which resamples are trusted; at 30 percentiles cover 88 to 96 %."""

FEWEST = 10
"""Groups of the rarer class below which nothing is told apart. Source: the simulation of `bench_coverage.py`."""


@dataclass(frozen=True)
class Difference:
    """A paired difference: its value, 95 % interval and two-sided p-value.

    Attributes:
        n_minority: image groups with the rarer class, the fewest that it rests on; None in reports before format 3.
    """

    value: float
    ci95: Interval
    p: float
    n_minority: int | None = field(default=None, kw_only=True)


@dataclass(frozen=True, eq=False)
class Population:
    """Samples whose groups are drawn together.

    Attributes:
        number: ``[N]`` each sample's group, from 0.
        n_groups: groups G; some may hold none of the N samples.
        key: equal for estimates whose groups are the same ones, drawn alike.
    """

    number: Ints
    n_groups: int
    key: Hashable

    @classmethod
    def of(cls, groups: Groups, seed: int) -> "Population":
        """Number the groups."""
        names, number = np.unique(groups, return_inverse=True)
        return cls(number.astype(np.int64), len(names), (seed, hash(groups.tobytes())))

    def at(self, index: Ints) -> "Population":
        """Return some of the samples, of the same groups."""
        return Population(self.number[index], self.n_groups, self.key)

    def summed(self, values: Floats) -> Floats:
        """Return ``[G]`` sums of ``[N]`` values over each group."""
        return np.bincount(self.number, values, self.n_groups).astype(np.float64)

    def n_holding(self, outcome: Bools) -> int:
        """Return how many groups hold a sample with the outcome."""
        return int(np.count_nonzero(np.bincount(self.number[outcome])))

    def n_minority(self, outcome: Bools) -> int:
        """Return how many groups hold the rarer outcome."""
        return min(self.n_holding(outcome), self.n_holding(~outcome))


@dataclass(frozen=True, eq=False)
class Term:
    """One AUC or share.

    Attributes:
        influence: ``[G]`` what each group adds to it, to first order.
        population: what the groups are of.
        n_minority: groups with the rarer class.
        bounds: z → interval that reaches z standard errors.
    """

    value: float
    influence: Floats
    population: Hashable
    n_minority: int
    bounds: Callable[[float], Interval]

    def equals(self, other: "Term") -> bool:
        """Return whether two are the same number of the same samples, however these are drawn."""
        alike = (self.value, self.population) == (other.value, other.population)
        return alike and np.array_equal(self.influence, other.influence)


def auc_term(ranking: Ranking, population: Population) -> Term:
    """Return an AUC; both classes are there."""
    auc, influence = auc_influence(ranking)
    n_right, n_wrong = len(ranking.right), len(ranking.wrong)
    by_group = population.summed(influence)
    held = [int(np.count_nonzero(np.bincount(population.number[side]))) for side in (ranking.right, ranking.wrong)]
    modelled, empirical = modelled_variance(auc, n_right, n_wrong), float((by_group**2).sum())
    scale, weight = design_effect(influence, population.number), min(held) / (min(held) + SHRINKAGE)
    if modelled > 0:
        scale = (1 - weight) * scale + weight * empirical / modelled
    bounds = functools.partial(auc_interval, auc, n_right, n_wrong, scale)
    return Term(auc, by_group, population.key, min(held), bounds)


def share_term(outcome: Bools, population: Population) -> Term:
    """Return the share of samples whose outcome is true; there is at least one sample."""
    share = float(outcome.mean())
    by_group, bounds = population.summed((outcome - share) / len(outcome)), share_bounds(outcome, population.number)
    return Term(share, by_group, population.key, population.n_minority(outcome), bounds)


@dataclass(frozen=True, eq=False)
class Estimate:
    """An AUC, a share, a mean or a difference of some.

    Attributes:
        value: NaN where undefined.
        terms: what it is the sum of, each with its factor; none where it is undefined.
        resampled: ``[R]`` the same on resamples, NaN where undefined; None where nothing was drawn.
        normal: the resamples are too few for percentiles, so their standard deviation is taken.
    """

    value: float
    terms: Sequence[tuple[float, Term]]
    resampled: Floats | None
    normal: bool = False

    @property
    def known(self) -> float | None:
        """Return the value, None where it is undefined."""
        return self.value if np.isfinite(self.value) else None

    @property
    def n_minority(self) -> int:
        """Return how many groups hold the rarer class, in the term where they are fewest."""
        return min((term.n_minority for _, term in self.terms), default=0)

    @property
    def ci95(self) -> Interval | None:
        """Return the 95 % interval, None where the value is undefined."""
        if self.known is None:
            return None
        drawn = self._trusted()
        return self._interval(Z95) if drawn is None else drawn_interval(self.value, drawn, normal=self.normal)

    def minus(self, other: "Estimate") -> "Estimate":
        """Return the difference, group by group."""
        return weighted_sum([(1.0, self), (-1.0, other)])

    def test(self) -> Difference | None:
        """Return the value with its interval and p-value against 0."""
        bounds = self.ci95
        if bounds is None:
            return None
        drawn = self._trusted()
        p = p_of(self.value, self._interval) if drawn is None else drawn_p(self.value, drawn, normal=self.normal)
        return Difference(self.value, bounds, p, n_minority=self.n_minority)

    def _trusted(self) -> Floats | None:
        """Return the resamples, None where the terms say more."""
        if self.resampled is None or self.n_minority < RESAMPLED_FROM:
            return None
        finite = self.resampled[np.isfinite(self.resampled)]
        return finite if len(finite) else None

    def _interval(self, z: float) -> Interval:
        """Return the interval that reaches z standard errors, by the terms.

        Choice: how far the terms of a difference go together is estimated from as many groups as the rarer class has,
        so a difference takes Student's t, and k − 1 in place of k. Without that two equal methods are called different
        in up to 8 % at 10 groups.
        """
        if not self._distinct:
            return self.value, self.value
        factors, terms = zip(*self._distinct, strict=True)
        if min(factors) < 0 < max(factors):
            freedom = max(1, self.n_minority - 1)
            z = student(z, freedom) * math.sqrt((freedom + 1) / freedom)
        values, bounds = [term.value for term in terms], [term.bounds(z) for term in terms]
        return combined_interval(factors, values, bounds, self._correlation)

    @functools.cached_property
    def _distinct(self) -> list[tuple[float, Term]]:
        """The terms, equal ones as one: a method less itself is 0 for certain."""
        merged: list[tuple[float, Term]] = []
        for factor, term in self.terms:
            at = next((i for i, (_, other) in enumerate(merged) if term.equals(other)), None)
            if at is None:
                merged.append((factor, term))
            else:
                merged[at] = (merged[at][0] + factor, term)
        return [(factor, term) for factor, term in merged if factor != 0]

    @functools.cached_property
    def _correlation(self) -> Floats:
        """``[K, K]`` of the distinct terms; those of other populations, or that do not vary, go with nothing."""
        terms = [term for _, term in self._distinct]
        correlation = np.eye(len(terms))
        for i, first in enumerate(terms):
            for j, second in enumerate(terms[:i]):
                size = float(np.sqrt((first.influence @ first.influence) * (second.influence @ second.influence)))
                if first.population == second.population and size > 0:
                    correlation[i, j] = correlation[j, i] = float(first.influence @ second.influence) / size
        return correlation


UNKNOWN = Estimate(float("nan"), (), np.full(1, np.nan))
"""What was not run; its one resample goes with any number of others."""


def weighted_sum(parts: Iterable[tuple[float, Estimate]]) -> Estimate:
    """Return Σ factor · estimate; undefined when one of them is."""
    given = list(parts)
    value = float(sum(factor * estimate.value for factor, estimate in given))
    terms = [(factor * inner, term) for factor, estimate in given for inner, term in estimate.terms]
    drawn = [estimate.resampled for _, estimate in given]
    resampled = None
    if not any(draws is None for draws in drawn):
        pairs = zip(given, drawn, strict=True)
        resampled = np.asarray(sum(factor * draws for (factor, _), draws in pairs if draws is not None))
    return Estimate(value, terms, resampled, any(estimate.normal for _, estimate in given))


def mean_of(estimates: Sequence[Estimate]) -> Estimate:
    """Return the mean of several estimates; undefined when one of them is."""
    if not estimates:
        return UNKNOWN
    total = weighted_sum([(1 / len(estimates), estimate) for estimate in estimates])
    drawn = [estimate.resampled for estimate in estimates if estimate.resampled is not None]
    # Means as numpy takes them, so that a mean over seeds is the same number wherever it stands.
    resampled = np.mean(np.broadcast_arrays(*drawn), axis=0) if len(drawn) == len(estimates) else None
    return replace(total, value=float(np.mean([estimate.value for estimate in estimates])), resampled=resampled)


def difference(first: float, second: float, drawn_first: Floats, drawn_second: Floats) -> Difference | None:
    """Return first - second with what the same resamples say about it; None where undefined."""
    drawn = drawn_first - drawn_second
    drawn = drawn[np.isfinite(drawn)]
    value = float(first - second)
    if not np.isfinite(value) or not len(drawn):
        return None
    return Difference(value, drawn_interval(value, drawn, normal=False), drawn_p(value, drawn, normal=False))


def drawn_interval(value: float, drawn: Floats, *, normal: bool) -> Interval:
    """Return the 2.5 % and 97.5 % percentiles of finite resamples, or 1.96 of their deviations around the value."""
    if normal:
        half = Z95 * float(drawn.std(ddof=1)) if len(drawn) > 1 else 0.0
        return value - half, value + half
    low, high = np.percentile(drawn, (2.5, 97.5))
    return float(low), float(high)


def drawn_p(value: float, drawn: Floats, *, normal: bool) -> float:
    """Return the two-sided p-value against 0 that finite resamples of a difference say.

    Choice: p = 2·min(P(d ≤ 0), P(d ≥ 0)) with one added to count and total, so it is never 0.
    """
    if normal:
        half = float(drawn.std(ddof=1)) if len(drawn) > 1 else 0.0
        return p_of(value, lambda z: (value - z * half, value + z * half))
    tail = min(int((drawn <= 0).sum()), int((drawn >= 0).sum()))
    return min(1.0, 2.0 * (tail + 1) / (len(drawn) + 1))
