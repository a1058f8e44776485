"""Are two AUCs different: the verdict, Holm's correction for several comparisons, and DeLong's test."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np

from relope.evaluate.numbers.estimates import FEWEST, Difference
from relope.evaluate.numbers.metrics import Bools, Floats
from relope.evaluate.numbers.ranking import auc_influence, rank

ALPHA = 0.05
"""A difference is called one where its corrected p-value stays below this."""

Verdict = Literal["higher", "lower", "no difference shown", "too few to tell"]
K = TypeVar("K")


@dataclass(frozen=True)
class JudgedDifference(Difference):
    """A difference with its verdict."""

    verdict: Verdict


@dataclass(frozen=True)
class Comparison(JudgedDifference):
    """A difference that is one of several.

    Attributes:
        p_holm: p corrected for all of them; the verdict follows it.
        p_delong: DeLong's, None unless every group is a single sample, since it takes samples as independent, and both
            methods have one seed, since it compares two rankings.
    """

    p_holm: float
    p_delong: float | None = None


def verdict(difference: Difference, p_holm: float) -> Verdict:
    """Say whether a difference is shown, and which way it goes.

    Where p is below α the interval cannot hold 0: both come from the same resamples or the same formula. Where fewer
    than ``FEWEST`` image groups hold the rarer class neither is sure enough to name a direction.
    """
    if difference.n_minority is not None and difference.n_minority < FEWEST:
        return "too few to tell"
    if p_holm >= ALPHA:
        return "no difference shown"
    return "higher" if difference.value > 0 else "lower"


def judged(difference: Difference | None) -> JudgedDifference | None:
    """Return a difference that stands alone with its verdict; its p needs no correction."""
    if difference is None:
        return None
    said = verdict(difference, difference.p)
    return JudgedDifference(difference.value, difference.ci95, difference.p, said, n_minority=difference.n_minority)


def compared(differences: Mapping[K, Difference | None]) -> dict[K, Comparison]:
    """Return the differences that are defined, each judged after Holm's correction for all of them."""
    known = {key: gap for key, gap in differences.items() if gap is not None}
    corrected = holm([gap.p for gap in known.values()])
    return {
        key: Comparison(gap.value, gap.ci95, gap.p, verdict(gap, p_holm), p_holm, n_minority=gap.n_minority)
        for (key, gap), p_holm in zip(known.items(), corrected, strict=True)
    }


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's adjusted p-values: below α means rejected with a family-wise error of at most α."""
    order = np.argsort(p_values, kind="stable")
    adjusted, highest = [0.0] * len(p_values), 0.0
    for step, index in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - step) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def delong(correct: Bools, first: Floats, second: Floats) -> float | None:
    """Return the two-sided p-value for AUC(first) = AUC(second) on the same, independent samples.

    None when one class has fewer than two samples; 1 when the two rank every pair alike.

    Source: DeLong, DeLong and Clarke-Pearson 1988; fast form of Sun and Xu 2014.
    """
    from scipy.stats import norm

    n_right = int(correct.sum())
    if min(n_right, len(correct) - n_right) < 2:
        return None
    (auc, influence), (other_auc, other) = (auc_influence(rank(correct, score)) for score in (first, second))
    gap, squares = auc - other_auc, (influence - other) ** 2
    variance = sum(float(squares[side].sum()) * side.sum() / (side.sum() - 1) for side in (correct, ~correct))
    if variance <= 0:
        return 1.0 if gap == 0 else 0.0
    return float(2 * norm.sf(abs(gap) / np.sqrt(variance)))
