"""The table that a threshold is chosen from: what each one escalates, how right the system then is, what it costs."""

from dataclasses import dataclass

import numpy as np

from relope.evaluate.numbers.budget import thresholds_for
from relope.evaluate.numbers.estimates import Population, share_term
from relope.evaluate.numbers.intervals import Z95, Interval, student
from relope.evaluate.numbers.metrics import Bools, Floats
from relope.evaluate.numbers.routing import Kind

SHARES = tuple(range(1, 100))
"""Percent escalated on the samples that thresholds are set on."""


@dataclass(frozen=True)
class ThresholdRow:
    """What happens at a threshold, with 95 % intervals over the drawing of samples.

    Attributes:
        percent: escalated at most when the threshold was set.
        threshold: scores below it are escalated.
        share: escalated.
        accuracy: of the system, or of what is kept; None where nothing is kept.
        dollars: mean dollars of a query; None without prices.
    """

    percent: int
    threshold: float
    share: float
    share_ci95: Interval
    accuracy: float | None
    accuracy_ci95: Interval | None
    dollars: float | None = None
    dollars_ci95: Interval | None = None


@dataclass(frozen=True)
class Outcomes:
    """What came true on N samples, and what it cost.

    Attributes:
        right: ``[N]`` whether the small model is.
        large_right: ``[N]`` whether the large model is; None where it was not run.
        kept_dollars: ``[N]`` cost of a query that is kept; None without prices.
        escalated_dollars: ``[N]`` cost of one that is escalated; None without prices.
    """

    right: Bools
    large_right: Bools | None = None
    kept_dollars: Floats | None = None
    escalated_dollars: Floats | None = None

    @property
    def kind(self) -> Kind:
        """Whether accuracies are the system's or those of what is kept."""
        return "kept" if self.large_right is None else "system"

    def dollars(self, escalated: Bools) -> Floats | None:
        """Return ``[N]`` what each query costs; None without prices."""
        if self.kept_dollars is None or self.escalated_dollars is None:
            return None
        return np.where(escalated, self.escalated_dollars, self.kept_dollars)


def percent_thresholds(scores: Floats) -> Floats:
    """Return ``[99]`` the thresholds that escalate at most 1, 2, …, 99 % of the samples."""
    return thresholds_for(scores, [percent / 100 for percent in SHARES])


def threshold_table(scores: Floats, outcomes: Outcomes, population: Population) -> list[ThresholdRow]:
    """Return one row a percent, 1 to 99.

    Args:
        scores: ``[N]``.
        outcomes: of the same samples.
        population: the same samples' image groups.
    """
    return [
        threshold_row(percent, float(threshold), scores, outcomes, population)
        for percent, threshold in zip(SHARES, percent_thresholds(scores), strict=True)
    ]


def threshold_row(
    percent: int, threshold: float, scores: Floats, outcomes: Outcomes, population: Population
) -> ThresholdRow:
    """Return what happens at a threshold."""
    escalated = scores < threshold
    share = share_term(escalated, population)
    if outcomes.large_right is not None:
        counted, of = np.where(escalated, outcomes.large_right, outcomes.right), population
    else:
        counted, of = outcomes.right[~escalated], population.at(np.flatnonzero(~escalated))
    accuracy = share_term(counted, of) if len(counted) else None
    return ThresholdRow(
        percent,
        threshold,
        share.value,
        share.bounds(Z95),
        None if accuracy is None else accuracy.value,
        None if accuracy is None else accuracy.bounds(Z95),
        *_mean(outcomes.dollars(escalated), population),
    )


def _mean(values: Floats | None, population: Population) -> tuple[float | None, Interval | None]:
    """Return a mean and its interval: variance summed by group, Student's t over groups; none of a single group."""
    if values is None:
        return None, None
    mean, n_groups = float(values.mean()), int(np.count_nonzero(np.bincount(population.number)))
    if n_groups < 2:
        return mean, None
    deviation = float(np.sqrt((population.summed((values - mean) / len(values)) ** 2).sum()))
    half = student(Z95, n_groups - 1) * deviation
    return mean, (mean - half, mean + half)
