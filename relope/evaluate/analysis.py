"""Every number of a report, computed once."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import polars as pl

from relope.evaluate.bootstrap import AucBootstrap, Difference, bootstrap_auc
from relope.evaluate.inputs import BASELINE, ReportInputs
from relope.evaluate.metrics import Bools, auc_null_reason
from relope.evaluate.routing import RoutingBands, RoutingCurve, routing_bands, routing_curve


@dataclass(frozen=True)
class Family:
    """The samples of one data set or question kind.

    Attributes:
        large_accuracy: None when the large model was not run.
        auc: of the best method, None with ``auc_null_reason`` where one class is absent.
        ci95: of that AUC.
    """

    dataset: str
    kind: str | None
    n: int
    n_groups: int
    n_correct: int
    large_accuracy: float | None
    auc: float | None
    ci95: tuple[float, float] | None
    auc_null_reason: str | None

    @property
    def small_accuracy(self) -> float:
        """Return the share of right answers of the small model."""
        return self.n_correct / self.n


@dataclass(frozen=True)
class Analysis:
    """A report's inputs with everything computed from them.

    Attributes:
        best: place of the method with the highest AUC, controls aside.
        baseline: place of ``probe``, None when it was not run.
        ranked: places of all methods, best AUC first, controls last.
    """

    inputs: ReportInputs
    bootstrap: AucBootstrap
    curves: tuple[RoutingCurve, ...]
    bands: RoutingBands
    families: tuple[Family, ...]
    best: int
    baseline: int | None
    ranked: tuple[int, ...]
    n_groups: int

    @property
    def differences(self) -> list[Difference | None]:
        """Return each method's paired difference to the baseline; None for the baseline itself."""
        places = range(len(self.inputs.methods))
        if self.baseline is None:
            return [None for _ in places]
        return [None if place == self.baseline else self.bootstrap.difference(place, self.baseline) for place in places]

    def best_over(self, place: int) -> Difference | None:
        """Return how far the best method is above another one, paired."""
        return self.bootstrap.difference(self.best, place)

    @property
    def name_of_best(self) -> str:
        """Return the best method's name."""
        return self.inputs.methods[self.best].name


def analyse(inputs: ReportInputs) -> Analysis:
    """Compute everything that a report shows."""
    correct, groups, scores = inputs.correct, inputs.groups, inputs.scores
    bootstrap = bootstrap_auc(correct, scores, groups, inputs.resamples, inputs.seed)
    ranked = _ranked(inputs, bootstrap)
    names = [method.name for method in inputs.methods]
    return Analysis(
        inputs=inputs,
        bootstrap=bootstrap,
        curves=tuple(routing_curve(row, correct, inputs.large_correct, inputs.seed) for row in scores),
        bands=routing_bands(scores, correct, inputs.large_correct, groups, inputs.resamples, inputs.seed),
        families=tuple(_families(inputs, ranked[0])),
        best=ranked[0],
        baseline=names.index(BASELINE) if BASELINE in names else None,
        ranked=ranked,
        n_groups=len(np.unique(groups)),
    )


def _ranked(inputs: ReportInputs, bootstrap: AucBootstrap) -> tuple[int, ...]:
    def key(place: int) -> tuple[bool, float, bool, int]:
        value = bootstrap.auc[place]
        method = inputs.methods[place]
        return method.is_control, 0.0 if value is None else -value, method.name != BASELINE, place

    return tuple(sorted(range(len(inputs.methods)), key=key))


def _families(inputs: ReportInputs, best: int) -> Iterable[Family]:
    has_kind = "kind" in inputs.labels.columns
    keys = inputs.labels.select(
        pl.col("dataset"), pl.col("kind") if has_kind else pl.lit(None, pl.String).alias("kind")
    ).rows()
    for dataset, kind in sorted(set(keys), key=lambda pair: (pair[0] or "", pair[1] or "")):
        inside = np.array([key == (dataset, kind) for key in keys])
        yield _family(inputs, best, inside, str(dataset), kind)


def _family(inputs: ReportInputs, best: int, inside: Bools, dataset: str, kind: str | None) -> Family:
    correct, groups = inputs.correct[inside], inputs.groups[inside]
    drawn = bootstrap_auc(correct, inputs.scores[best : best + 1, inside], groups, inputs.resamples, inputs.seed)
    return Family(
        dataset=dataset,
        kind=None if kind is None else str(kind),
        n=len(correct),
        n_groups=len(np.unique(groups)),
        n_correct=int(correct.sum()),
        large_accuracy=None if inputs.large_correct is None else float(inputs.large_correct[inside].mean()),
        auc=drawn.auc[0],
        ci95=drawn.interval(0) if drawn.auc[0] is not None else None,
        auc_null_reason=auc_null_reason(correct),
    )
