"""AUCs of reports read back, with the resamples that intervals and differences between reports come from."""

from dataclasses import dataclass

import numpy as np

from relope.evaluate.numbers.bootstrap import Difference, difference, percentile_interval, resample_weights
from relope.evaluate.numbers.metrics import Floats
from relope.evaluate.numbers.persample import Evaluated
from relope.evaluate.numbers.ranking import rank, weighted_auc


@dataclass(frozen=True)
class Drawn:
    """One AUC, a mean of AUCs, or a difference: its value and ``[R]`` resamples; NaN where undefined."""

    value: float
    resampled: Floats

    @property
    def known(self) -> float | None:
        """Return the value, None where it is undefined."""
        return self.value if np.isfinite(self.value) else None

    @property
    def ci95(self) -> tuple[float, float] | None:
        """Return the 95 % interval, None where there is none."""
        return percentile_interval(self.resampled) if self.known is not None else None

    def minus(self, other: "Drawn") -> "Drawn":
        """Return the difference, resample by resample."""
        return Drawn(self.value - other.value, self.resampled - other.resampled)

    def test(self) -> Difference | None:
        """Return the value with its interval and p-value against 0."""
        return difference(self.value, 0.0, self.resampled, np.zeros_like(self.resampled))


UNKNOWN = Drawn(float("nan"), np.full(1, np.nan))
"""What was not run; its one resample goes with any number of others."""


def mean(drawn: list[Drawn]) -> Drawn:
    """Return the mean of several AUCs; undefined when one of them is."""
    if not drawn:
        return UNKNOWN
    value = float(np.mean([one.value for one in drawn]))
    return Drawn(value, np.mean(np.broadcast_arrays(*(one.resampled for one in drawn)), axis=0))


def draw_aucs(one: Evaluated, resamples: int, seed: int) -> dict[str, Drawn]:
    """Return method → AUC, averaged over its seeds; all methods share the resamples."""
    rankings = {name: [rank(one.correct, row) for row in rows] for name, rows in one.scores.items()}
    whole = np.ones((len(one.correct), 1))
    found: dict[str, list[Floats]] = {name: [] for name in rankings}
    for weights in resample_weights(one.groups, resamples, seed):
        for name, seeds in rankings.items():
            found[name].append(np.mean([weighted_auc(ranking, weights) for ranking in seeds], axis=0))
    return {
        name: Drawn(float(np.mean([weighted_auc(ranking, whole)[0] for ranking in seeds])), np.concatenate(found[name]))
        for name, seeds in rankings.items()
    }


def align_reports(first: Evaluated, others: list[Evaluated]) -> tuple[list[Evaluated], bool]:
    """Return reports with their samples in the same order, and whether they are the same samples.

    Only then are differences between them paired; the groups are those of the first report.
    """
    if any(set(other.ids) != set(first.ids) for other in others):
        return [first, *others], False
    taken = [other.take(first.ids) for other in others]
    same = [
        Evaluated(one.path, one.report, one.samples.with_columns(first.samples["group"]), one.scores) for one in taken
    ]
    return [first, *same], True
