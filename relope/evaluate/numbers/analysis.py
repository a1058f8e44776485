"""Every number of a report, computed once."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

from relope.evaluate.numbers.calibration import cross_calibrated
from relope.evaluate.numbers.costs import Axis
from relope.evaluate.numbers.inputs import BASELINE, MethodScores, ReportInputs
from relope.evaluate.numbers.metrics import Floats
from relope.evaluate.numbers.resampled import Resampled, n_threads, resample
from relope.evaluate.numbers.routing import RoutingCurve, escalation_order, mean_curve, number, routing_curve
from relope.evaluate.numbers.significance import Comparison, compared, delong
from relope.evaluate.numbers.slices import Slice, slices
from relope.evaluate.numbers.statistics import Labels, SortedScores


@dataclass(frozen=True)
class Analysis:
    """A report's inputs with everything computed from them.

    Attributes:
        comparisons: of each method with the baseline; None for itself and where undefined.
        best: index of the method with the highest AUC, controls and those that learned from these samples aside.
        baseline: index of ``probe``, None when it was not run.
        ranked: indices of all methods, best AUC first, then those that learned from these samples, controls last.
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

    def cost_along(self, index: int, axis: Axis) -> Floats | None:
        """Return ``[N + 1]`` the mean cost of a query when the first k of a method's queue are escalated.

        It is the mean over the seeds, as accuracies are; None where no price is known that it needs.
        """
        costs, method = self.inputs.costs, self.inputs.methods[index]
        if costs is None:
            return None
        orders = [escalation_order(row, self.inputs.seed) for row in method.by_seed]
        lines = [costs.along(axis, method.name, order) for order in orders]
        known = [line for line in lines if line is not None]
        return np.mean(known, axis=0, dtype=np.float64) if known else None

    def value(self, index: int, name: str) -> float | None:
        """Return a statistic of a method, None where it is undefined."""
        return number(float(self.resampled.value[name][index]))


def analyse(inputs: ReportInputs) -> Analysis:
    """Compute everything that a report shows."""
    labels = Labels(inputs.correct, inputs.large_correct, inputs.seed, inputs.marks)
    with ThreadPoolExecutor(n_threads()) as pool:
        methods = list(pool.map(lambda method: _sorted(inputs, method, labels), inputs.methods))
    resampled = resample(inputs.groups, labels, methods, inputs.resamples)
    ranked = _ranked(inputs, resampled)
    # Where nothing is fair a control that learned from other samples stands for it: warnings say so first.
    best = min(ranked, key=lambda index: (not inputs.methods[index].is_fair, bool(inputs.methods[index].seen)))
    listed = [method.name for method in inputs.methods]
    baseline = listed.index(BASELINE) if BASELINE in listed else None
    return Analysis(
        inputs=inputs,
        resampled=resampled,
        comparisons=_comparisons(inputs, resampled, baseline),
        curves=tuple(_curve(inputs, method) for method in inputs.methods),
        calibrated=np.stack([seeds[0].calibrated for seeds in methods]),
        slices=tuple(slices(inputs, inputs.scores[best])),
        best=best,
        baseline=baseline,
        ranked=ranked,
        n_groups=len(np.unique(inputs.groups)),
    )


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
    # DeLong's test is of two rankings of independent samples: a mean over seeds is no ranking.
    of_one_seed = [len(method.by_seed) == 1 for method in inputs.methods]
    if of_one_seed[baseline] and len(np.unique(inputs.groups)) == len(inputs.groups):
        other = inputs.scores[baseline]
        comparisons |= {
            index: replace(comparison, p_delong=delong(inputs.correct, inputs.scores[index], other))
            for index, comparison in comparisons.items()
            if of_one_seed[index] and comparison.verdict != "too few to tell"
        }
    return tuple(comparisons.get(index) for index in indices)


def _ranked(inputs: ReportInputs, resampled: Resampled) -> tuple[int, ...]:
    def key(index: int) -> tuple[bool, bool, float, bool, int]:
        value = float(resampled.value["auc"][index])
        method = inputs.methods[index]
        seen = bool(method.seen)
        return method.is_control, seen, -value if np.isfinite(value) else 0.0, method.name != BASELINE, index

    return tuple(sorted(range(len(inputs.methods)), key=key))
