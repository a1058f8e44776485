"""Every number of a report, computed once."""

from dataclasses import dataclass

import numpy as np

from relope.evaluate.numbers.bootstrap import Difference, difference, percentile_interval, resample_weights
from relope.evaluate.numbers.calibration import cross_calibrated
from relope.evaluate.numbers.inputs import BASELINE, MethodScores, ReportInputs
from relope.evaluate.numbers.metrics import Floats
from relope.evaluate.numbers.routing import RoutingCurve, mean_curve, routing_curve
from relope.evaluate.numbers.significance import delong, holm
from relope.evaluate.numbers.slices import Slice, slices
from relope.evaluate.numbers.statistics import Labels, Prepared, names, statistics


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

    def interval(self, place: int, name: str) -> tuple[float, float] | None:
        """Return a statistic's 95 % interval, None where it is undefined."""
        if not np.isfinite(self.value[name][place]):
            return None
        return percentile_interval(self.drawn[name][place])

    def difference(self, first: int, second: int, name: str = "auc") -> Difference | None:
        """Return a paired difference between two methods, None where undefined."""
        value, drawn = self.value[name], self.drawn[name]
        return difference(value[first], value[second], drawn[first], drawn[second])

    @property
    def n_dropped(self) -> int:
        """Return how many resamples have no AUC, since one class was absent."""
        return int((~np.isfinite(self.drawn["auc"]).all(axis=0)).sum())


@dataclass(frozen=True)
class Comparison:
    """A method against the baseline.

    Attributes:
        difference: of the AUCs.
        p_holm: adjusted for all methods that are compared.
        p_delong: DeLong's, None unless every group is a single sample (it takes samples as independent).
    """

    difference: Difference
    p_holm: float
    p_delong: float | None

    @property
    def verdict(self) -> str:
        """Return ``higher``, ``lower`` or ``no difference shown``, after Holm's correction."""
        if self.p_holm >= 0.05 or self.difference.low <= 0 <= self.difference.high:
            return "no difference shown"
        return "higher" if self.difference.value > 0 else "lower"


@dataclass(frozen=True)
class Analysis:
    """A report's inputs with everything computed from them.

    Attributes:
        best: place of the method with the highest AUC, controls aside.
        baseline: place of ``probe``, None when it was not run.
        ranked: places of all methods, best AUC first, controls last.
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

    def value(self, place: int, name: str) -> float | None:
        """Return a statistic of a method, None where it is undefined."""
        found = float(self.resampled.value[name][place])
        return found if np.isfinite(found) else None


def analyse(inputs: ReportInputs) -> Analysis:
    """Compute everything that a report shows."""
    labels = Labels(inputs.correct, inputs.large_correct, inputs.seed)
    prepared = [_prepared(inputs, method, labels) for method in inputs.methods]
    resampled = resample(inputs, labels, prepared)
    ranked = _ranked(inputs, resampled)
    listed = [method.name for method in inputs.methods]
    baseline = listed.index(BASELINE) if BASELINE in listed else None
    return Analysis(
        inputs=inputs,
        resampled=resampled,
        comparisons=_comparisons(inputs, resampled, baseline),
        curves=tuple(_curve(inputs, method) for method in inputs.methods),
        calibrated=np.stack([seeds[0].calibrated for seeds in prepared]),
        slices=tuple(slices(inputs, inputs.scores[ranked[0]])),
        best=ranked[0],
        baseline=baseline,
        ranked=ranked,
        n_groups=len(np.unique(inputs.groups)),
    )


def resample(inputs: ReportInputs, labels: Labels, prepared: list[list[Prepared]]) -> Resampled:
    """Return all statistics on all samples and on every resample."""
    whole = np.ones((len(labels.correct), 1))
    value, by_seed = _measure(labels, prepared, whole)
    chunks, small, large = [], [], []
    for weights in resample_weights(inputs.groups, inputs.resamples, inputs.seed):
        chunks.append(_measure(labels, prepared, weights)[0])
        n = weights.sum(axis=0)
        small.append(labels.correct @ weights / n)
        if labels.large is not None:
            large.append(labels.large @ weights / n)
    drawn = {name: np.concatenate([chunk[name] for chunk in chunks], axis=1) for name in names()}
    seeds = tuple(tuple(float(one) for one in rows[:, 0]) for rows in by_seed)
    point = {name: values[:, 0] for name, values in value.items()}
    return Resampled(point, drawn, seeds, np.concatenate(small), np.concatenate(large) if large else None)


def _measure(labels: Labels, prepared: list[list[Prepared]], weights: Floats) -> tuple[dict[str, Floats], list[Floats]]:
    """Return statistic → ``[M, r]`` means over seeds, and each method's ``[S, r]`` AUCs."""
    found = [[statistics(labels, seed, weights) for seed in seeds] for seeds in prepared]
    means = {name: np.stack([np.mean([one[name] for one in seeds], axis=0) for seeds in found]) for name in names()}
    return means, [np.stack([one["auc"] for one in seeds]) for seeds in found]


def _prepared(inputs: ReportInputs, method: MethodScores, labels: Labels) -> list[Prepared]:
    return [
        Prepared.of(row, cross_calibrated(row, labels.correct, inputs.groups, inputs.seed), labels)
        for row in method.by_seed
    ]


def _curve(inputs: ReportInputs, method: MethodScores) -> RoutingCurve:
    """Return the mean of a method's curves over its seeds."""
    return mean_curve([routing_curve(row, inputs.correct, inputs.large_correct, inputs.seed) for row in method.by_seed])


def _comparisons(inputs: ReportInputs, resampled: Resampled, baseline: int | None) -> tuple[Comparison | None, ...]:
    places = range(len(inputs.methods))
    if baseline is None:
        return tuple(None for _ in places)
    gaps = {place: resampled.difference(place, baseline) for place in places if place != baseline}
    known = {place: gap for place, gap in gaps.items() if gap is not None}
    adjusted = dict(zip(known, holm([gap.p for gap in known.values()]), strict=True))
    single = len(np.unique(inputs.groups)) == len(inputs.groups)

    def compare(place: int) -> Comparison | None:
        if place not in known:
            return None
        first, second = inputs.scores[place], inputs.scores[baseline]
        return Comparison(known[place], adjusted[place], delong(inputs.correct, first, second) if single else None)

    return tuple(compare(place) for place in places)


def _ranked(inputs: ReportInputs, resampled: Resampled) -> tuple[int, ...]:
    def key(place: int) -> tuple[bool, float, bool, int]:
        value = float(resampled.value["auc"][place])
        method = inputs.methods[place]
        return method.is_control, -value if np.isfinite(value) else 0.0, method.name != BASELINE, place

    return tuple(sorted(range(len(inputs.methods)), key=key))
