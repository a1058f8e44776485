"""Every number of a report, computed once."""

from dataclasses import dataclass, replace

import numpy as np

from relope.evaluate.numbers.bootstrap import Difference, Interval, difference, percentile_interval, resample_weights
from relope.evaluate.numbers.calibration import cross_calibrated
from relope.evaluate.numbers.inputs import BASELINE, MethodScores, ReportInputs
from relope.evaluate.numbers.metrics import Floats
from relope.evaluate.numbers.routing import RoutingCurve, mean_curve, number, routing_curve
from relope.evaluate.numbers.significance import Comparison, compared, delong
from relope.evaluate.numbers.slices import Slice, slices
from relope.evaluate.numbers.statistics import Labels, SortedScores, names, statistics


@dataclass(frozen=True)
class Resampled:
    """Statistics of M methods, averaged over the seeds of each.

    Attributes:
        value: statistic → ``[M]`` on all samples; NaN where undefined.
        drawn: statistic → ``[M, R]`` on the resamples, the same for every method and seed.
        by_seed: per method, the AUC of each seed.
        small: ``[R]`` accuracy of the small model.
        large: ``[R]`` accuracy of the large model, None when unknown.
    """

    value: dict[str, Floats]
    drawn: dict[str, Floats]
    by_seed: tuple[tuple[float, ...], ...]
    small: Floats
    large: Floats | None

    def interval(self, index: int, name: str) -> Interval | None:
        """Return a statistic's 95 % interval, None where it is undefined."""
        if not np.isfinite(self.value[name][index]):
            return None
        return percentile_interval(self.drawn[name][index])

    def difference(self, first: int, second: int, name: str = "auc") -> Difference | None:
        """Return a paired difference between two methods, None where undefined."""
        value, drawn = self.value[name], self.drawn[name]
        return difference(value[first], value[second], drawn[first], drawn[second])

    @property
    def n_dropped(self) -> int:
        """Return how many resamples have no AUC, since one class was absent."""
        return int((~np.isfinite(self.drawn["auc"]).all(axis=0)).sum())


@dataclass(frozen=True)
class Analysis:
    """A report's inputs with everything computed from them.

    Attributes:
        comparisons: of each method with the baseline; None for itself and where undefined.
        best: index of the method with the highest AUC, controls aside.
        baseline: index of ``probe``, None when it was not run.
        ranked: indices of all methods, best AUC first, controls last.
        calibrated: ``[M, N]`` cross-fitted isotonic scores of each method's first seed.
    """

    inputs: ReportInputs
    resampled: Resampled
    comparisons: tuple[Comparison | None, ...]
    curves: tuple[RoutingCurve, ...]
    calibrated: Floats
    slices: tuple[Slice, ...]
    best: int
    baseline: int | None
    ranked: tuple[int, ...]
    n_groups: int

    @property
    def name_of_best(self) -> str:
        """Return the best method's name."""
        return self.inputs.methods[self.best].name

    def value(self, index: int, name: str) -> float | None:
        """Return a statistic of a method, None where it is undefined."""
        return number(float(self.resampled.value[name][index]))


def analyse(inputs: ReportInputs) -> Analysis:
    """Compute everything that a report shows."""
    labels = Labels(inputs.correct, inputs.large_correct, inputs.seed)
    methods = [_sorted(inputs, method, labels) for method in inputs.methods]
    resampled = resample(inputs, labels, methods)
    ranked = _ranked(inputs, resampled)
    listed = [method.name for method in inputs.methods]
    baseline = listed.index(BASELINE) if BASELINE in listed else None
    return Analysis(
        inputs=inputs,
        resampled=resampled,
        comparisons=_comparisons(inputs, resampled, baseline),
        curves=tuple(_curve(inputs, method) for method in inputs.methods),
        calibrated=np.stack([seeds[0].calibrated for seeds in methods]),
        slices=tuple(slices(inputs, inputs.scores[ranked[0]])),
        best=ranked[0],
        baseline=baseline,
        ranked=ranked,
        n_groups=len(np.unique(inputs.groups)),
    )


def resample(inputs: ReportInputs, labels: Labels, methods: list[list[SortedScores]]) -> Resampled:
    """Return all statistics on all samples and on every resample; each method has one entry a seed."""
    whole = np.ones((len(labels.correct), 1))
    value, by_seed = _measure(labels, methods, whole)
    chunks, small, large = [], [], []
    for weights in resample_weights(inputs.groups, inputs.resamples, inputs.seed):
        chunks.append(_measure(labels, methods, weights)[0])
        n = weights.sum(axis=0)
        small.append(labels.correct @ weights / n)
        if labels.large is not None:
            large.append(labels.large @ weights / n)
    drawn = {name: np.concatenate([chunk[name] for chunk in chunks], axis=1) for name in names()}
    seeds = tuple(tuple(float(auc) for auc in aucs[:, 0]) for aucs in by_seed)
    point = {name: values[:, 0] for name, values in value.items()}
    return Resampled(point, drawn, seeds, np.concatenate(small), np.concatenate(large) if large else None)


def _measure(
    labels: Labels, methods: list[list[SortedScores]], weights: Floats
) -> tuple[dict[str, Floats], list[Floats]]:
    """Return statistic → ``[M, r]`` means over seeds, and each method's ``[S, r]`` AUCs."""
    values = [[statistics(labels, seed, weights) for seed in seeds] for seeds in methods]
    means = {name: np.stack([np.mean([seed[name] for seed in seeds], axis=0) for seeds in values]) for name in names()}
    return means, [np.stack([seed["auc"] for seed in seeds]) for seeds in values]


def _sorted(inputs: ReportInputs, method: MethodScores, labels: Labels) -> list[SortedScores]:
    return [
        SortedScores.of(row, cross_calibrated(row, labels.correct, inputs.groups, inputs.seed), labels)
        for row in method.by_seed
    ]


def _curve(inputs: ReportInputs, method: MethodScores) -> RoutingCurve:
    """Return the mean of a method's curves over its seeds."""
    return mean_curve([routing_curve(row, inputs.correct, inputs.large_correct, inputs.seed) for row in method.by_seed])


def _comparisons(inputs: ReportInputs, resampled: Resampled, baseline: int | None) -> tuple[Comparison | None, ...]:
    indices = range(len(inputs.methods))
    if baseline is None:
        return tuple(None for _ in indices)
    comparisons = compared({index: resampled.difference(index, baseline) for index in indices if index != baseline})
    if len(np.unique(inputs.groups)) == len(inputs.groups):
        other = inputs.scores[baseline]
        comparisons = {
            index: replace(comparison, p_delong=delong(inputs.correct, inputs.scores[index], other))
            for index, comparison in comparisons.items()
        }
    return tuple(comparisons.get(index) for index in indices)


def _ranked(inputs: ReportInputs, resampled: Resampled) -> tuple[int, ...]:
    def key(index: int) -> tuple[bool, float, bool, int]:
        value = float(resampled.value["auc"][index])
        method = inputs.methods[index]
        return method.is_control, -value if np.isfinite(value) else 0.0, method.name != BASELINE, index

    return tuple(sorted(range(len(inputs.methods)), key=key))
