"""All statistics of all methods on the same resamples, with the intervals and differences that come of them."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

from relope.evaluate.numbers.bootstrap import MANY, draws_for, resample_weights
from relope.evaluate.numbers.estimates import (
    FEWEST,
    Difference,
    Estimate,
    Population,
    auc_term,
    drawn_interval,
    mean_of,
    share_term,
    weighted_sum,
)
from relope.evaluate.numbers.intervals import Interval
from relope.evaluate.numbers.metrics import Bools, Floats, Groups
from relope.evaluate.numbers.routing import mark_key, n_escalated
from relope.evaluate.numbers.statistics import Labels, SortedScores, Values, names, statistics

MOST_DROPPED = 0.05
"""Choice: share of the resamples on which a statistic may be undefined; as much as a 95 % interval leaves out.

PGR, APGR, CPT and QNC are undefined where the large model is right no more often than the small one. An interval of the
other resamples takes it for granted that there is a gap, which the samples then do not show.
"""


@dataclass(frozen=True)
class Resampled:
    """Statistics of M methods, averaged over the seeds of each.

    Attributes:
        value: statistic → ``[M]`` on all samples; NaN where undefined.
        drawn: statistic → ``[M, R]`` on the resamples, the same for every method and seed.
        by_seed: per method, the AUC of each seed.
        estimates: of AUCs, accuracies and leads over random: statistic → one a method, exact where few are wrong.
        small: accuracy of the small model.
        large: accuracy of the large model, None when unknown.
        n_minority: image groups with the rarer of right and wrong answers.
        normal: resamples are too few for percentiles, as of very many samples.
    """

    value: dict[str, Floats]
    drawn: dict[str, Floats]
    by_seed: tuple[tuple[float, ...], ...]
    estimates: dict[str, tuple[Estimate, ...]]
    small: Estimate
    large: Estimate | None
    n_minority: int
    normal: bool

    def interval(self, index: int, name: str) -> Interval | None:
        """Return a statistic's 95 % interval, None where it or its interval is undefined."""
        if name in self.estimates:
            return self.estimates[name][index].ci95
        value, drawn = float(self.value[name][index]), self.drawn[name][index]
        if not np.isfinite(value) or self.n_minority < FEWEST or self.dropped(index, name) > MOST_DROPPED:
            return None
        return drawn_interval(value, drawn[np.isfinite(drawn)], normal=self.normal)

    def dropped(self, index: int, name: str) -> float:
        """Return the share of the resamples on which a statistic is undefined, and which its interval leaves out."""
        return float((~np.isfinite(self.drawn[name][index])).mean())

    def difference(self, first: int, second: int, name: str = "auc") -> Difference | None:
        """Return a paired difference between two methods in one of the estimates, None where undefined."""
        return self.estimates[name][first].minus(self.estimates[name][second]).test()

    @property
    def n_draws(self) -> int:
        """Return how many resamples there are."""
        return int(self.drawn["auc"].shape[1])

    @property
    def n_dropped(self) -> int:
        """Return how many resamples have no AUC, since one class was absent."""
        return int((~np.isfinite(self.drawn["auc"]).all(axis=0)).sum())


def resample(groups: Groups, labels: Labels, methods: Sequence[Sequence[SortedScores]], asked: int) -> Resampled:
    """Return all statistics on all samples and on every resample; each method has one entry a seed.

    Args:
        groups: ``[N]``; samples of one group are drawn together.
        labels: what came true.
        methods: one a method, of each one a seed.
        asked: resamples; very many samples take fewer (`draws_for`).
    """
    n, population = len(groups), Population.of(groups, labels.seed)
    chunks, small, large = [], [], []
    with ThreadPoolExecutor(n_threads()) as pool:
        whole = _measure(pool, labels, methods, np.ones((n, 1)))
        for weights in resample_weights(groups, draws_for(n, asked), labels.seed):
            chunks.append(_means(_measure(pool, labels, methods, weights)))
            drawn_n = weights.sum(axis=0)
            small.append(labels.correct @ weights / drawn_n)
            if labels.large is not None:
                large.append(labels.large @ weights / drawn_n)
    drawn = {name: np.concatenate([chunk[name] for chunk in chunks], axis=1) for name in names(labels.marks)}
    value = {name: values[:, 0] for name, values in _means(whole).items()}
    estimates = Estimates(labels, population, value, drawn, normal=n > MANY)
    return Resampled(
        value=value,
        drawn=drawn,
        by_seed=tuple(tuple(float(seed["auc"][0]) for seed in seeds) for seeds in whole),
        estimates=estimates.by_name(methods),
        small=estimates.share(labels.correct, np.concatenate(small)),
        large=None if labels.large is None else estimates.share(labels.large, np.concatenate(large)),
        n_minority=population.n_minority(labels.correct),
        normal=n > MANY,
    )


def n_threads() -> int:
    """Return the cores that this process may use; numpy lets go of the interpreter while it computes."""
    allowed = os.environ.get("OMP_NUM_THREADS", "")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, int(allowed)) if allowed.isdigit() and int(allowed) else cores


def _measure(
    pool: ThreadPoolExecutor, labels: Labels, methods: Sequence[Sequence[SortedScores]], weights: Floats
) -> list[list[Values]]:
    """Return the statistics of each seed of each method, statistic → ``[r]``."""
    seeds = [seed for of_method in methods for seed in of_method]
    measured = pool.map(lambda seed: statistics(labels, seed, weights), seeds)
    return [[next(measured) for _ in of_method] for of_method in methods]


def _means(measured: Sequence[Sequence[Values]]) -> Values:
    """Return statistic → ``[M, r]`` means over seeds."""
    return {
        name: np.stack([np.mean([seed[name] for seed in seeds], axis=0) for seeds in measured])
        for name in measured[0][0]
    }


@dataclass(frozen=True)
class Estimates:
    """Makes estimates that keep their coverage where few answers are wrong.

    Attributes:
        value: statistic → ``[M]``.
        drawn: statistic → ``[M, R]``.
        normal: of very many samples: AUCs in closed form, the rest by the deviation of fewer resamples.
    """

    labels: Labels
    population: Population
    value: dict[str, Floats]
    drawn: dict[str, Floats]
    normal: bool

    def by_name(self, methods: Sequence[Sequence[SortedScores]]) -> dict[str, tuple[Estimate, ...]]:
        """Return statistic → one estimate a method."""
        estimates = {"auc": tuple(self._auc(index, seeds) for index, seeds in enumerate(methods))}
        for mark in self.labels.marks:
            accuracies = [mean_of([self._accuracy(seed, mark) for seed in seeds]) for seeds in methods]
            random = self._at_random(mark)
            leads = [accuracy.minus(random) for accuracy in accuracies]
            for name, several in (("accuracy_at", accuracies), ("gain_over_random_at", leads)):
                key = f"{name}_{mark_key(mark)}"
                estimates[key] = tuple(self._seen(key, index, estimate) for index, estimate in enumerate(several))
        return estimates

    def share(self, outcome: Bools, drawn: Floats) -> Estimate:
        """Return the share of samples whose outcome is true."""
        return replace(self._share(outcome, self.population), resampled=drawn, normal=self.normal)

    def _auc(self, index: int, seeds: Sequence[SortedScores]) -> Estimate:
        if not np.isfinite(self.value["auc"][index]):
            return Estimate(float("nan"), (), None)
        terms = [auc_term(seed.ranking, self.population) for seed in seeds]
        total = mean_of([Estimate(term.value, ((1.0, term),), None) for term in terms])
        drawn = None if self.normal else self.drawn["auc"][index]
        return replace(total, value=float(self.value["auc"][index]), resampled=drawn)

    def _seen(self, name: str, index: int, estimate: Estimate) -> Estimate:
        """Return the estimate with the value and resamples that the statistics give."""
        value = float(self.value[name][index])
        return replace(estimate, value=value, resampled=self.drawn[name][index], normal=self.normal)

    def _share(self, outcome: Bools, population: Population) -> Estimate:
        if not len(outcome):
            return Estimate(float("nan"), (), None)
        term = share_term(outcome, population)
        return Estimate(term.value, ((1.0, term),), None)

    def _accuracy(self, method: SortedScores, mark: int) -> Estimate:
        """Return the accuracy of the system when a share is escalated, or of what is kept then.

        Choice: the queue is taken as given; that its cut moves with the samples adds little.
        """
        small, large = self.labels.correct, self.labels.large
        cut = n_escalated(len(small), mark)
        gone, kept = method.order[:cut], method.order[cut:]
        if large is None:
            return self._share(small[kept], self.population.at(kept))
        outcome = small.copy()
        outcome[gone] = large[gone]
        return self._share(outcome, self.population)

    def _at_random(self, mark: int) -> Estimate:
        """Return that accuracy when as many are escalated at random; of what is kept it is the small model's."""
        small = self._share(self.labels.correct, self.population)
        if self.labels.large is None:
            return small
        n = len(self.labels.correct)
        share = n_escalated(n, mark) / n
        return weighted_sum([(1 - share, small), (share, self._share(self.labels.large, self.population))])
