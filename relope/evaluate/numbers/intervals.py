"""Intervals in closed form that keep their coverage where a resample cannot: few of a class, or very many samples.

Choice: score intervals. The bound θ is where the estimate lies z standard errors *of θ* away, so the interval of an
estimate of 1 is no point: its standard error is 0, that of a slightly lower θ is not. Samples that share an image are
not independent; their variance is the iid one times a design effect, both from influence functions, the second
summed by group.
"""

import math
from collections.abc import Callable, Sequence
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from relope.evaluate.numbers.metrics import Bools, Floats, Ints

Interval = tuple[float, float]
"""Lower and upper bound."""

Z95 = 1.959963984540054
"""Standard normal quantile of a two-sided 95 % interval."""

FARTHEST = 30.0
"""Standard errors beyond which a two-sided normal p-value is as good as 0 (1e-197)."""

SHRINKAGE = 15
"""Choice: groups of the rarer class that the empirical variance needs to count as much as the modelled one.

It is too small at few groups (an AUC of 1 has none at all) and right at many, the modelled one is right at few and
too large for the good rankings of many. Of 10, 15 and 20 this keeps `bench_coverage.py` within .93 to .97.
"""


def modelled_variance(auc: float, n_right: int, n_wrong: int) -> float:
    """Return the variance of an AUC of independent samples whose scores are exponential.

    Source: Hanley and McNeil 1982, with both class sizes at their mean as in method 5 of Newcombe 2006 (*Confidence
    intervals for an effect size measure based on the Mann–Whitney statistic, part 2*).
    """
    middle = (n_right + n_wrong) / 2 - 1
    spread = 1 + middle * (1 - auc) / (2 - auc) + middle * auc / (1 + auc)
    return auc * (1 - auc) * spread / (n_right * n_wrong)


def auc_interval(auc: float, n_right: int, n_wrong: int, scale: float, z: float = Z95) -> Interval:
    """Return the score interval of an AUC: every θ whose modelled standard error puts the AUC within z of it.

    Args:
        auc: in [0, 1].
        n_right: samples of one class.
        n_wrong: of the other.
        scale: what the modelled variance is multiplied by, for groups and for how the scores really spread.
        z: standard errors.

    Source: Newcombe 2006, method 5.
    """

    def excess(theta: float) -> float:
        return (theta - auc) ** 2 - z * z * scale * modelled_variance(theta, n_right, n_wrong)

    return _root(excess, 0.0, auc), _root(excess, 1.0, auc)


def _root(excess: Callable[[float], float], end: float, estimate: float) -> float:
    """Return where the excess is 0 between an end of [0, 1] and the estimate, at which it is below."""
    from scipy.optimize import brentq

    near = estimate + 1e-12 * (end - estimate)
    if near == end or excess(near) >= 0:  # at the end itself, or nothing varies
        return estimate
    return float(brentq(excess, end, near, xtol=1e-12))


def share_interval(share: float, n: float, z: float = Z95) -> Interval:
    """Return Wilson's interval of a share of n independent samples; n may be an effective number.

    Source: Wilson 1927; clusters through n over the design effect as in Rao and Scott 1992.
    """
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))


def design_effect(influence: Floats, group: Ints) -> float:
    """Return how many times larger groups make a variance than as many independent samples, at least 1.

    Args:
        influence: ``[N]`` what each sample adds to the estimate.
        group: ``[N]`` group numbers from 0.

    Where nothing varies, or all samples are of one group, there is nothing to estimate it from, and samples of a group
    count as one.
    """
    alone, sizes = float((influence**2).sum()), np.bincount(group)
    if alone <= 0 or np.count_nonzero(sizes) < 2:
        return float((sizes**2).sum() / sizes.sum())
    return max(1.0, float((np.bincount(group, influence) ** 2).sum()) / alone)


def share_bounds(outcome: Bools, group: Ints) -> Callable[[float], Interval]:
    """Return z → Wilson's interval of the share of samples whose outcome is true; those of a group are drawn together.

    The design effect is estimated too, from so many groups, so z becomes Student's t; without groups it is 1 for
    certain.

    Args:
        outcome: ``[N]``, N ≥ 1.
        group: ``[N]`` group numbers from 0.
    """
    share, n_groups = float(outcome.mean()), int(np.count_nonzero(np.bincount(group)))
    n = len(outcome) / design_effect(np.asarray(outcome - share, dtype=np.float64), group)

    def bounds(z: float) -> Interval:
        return share_interval(share, n, student(z, max(1, n_groups - 1)) if n_groups < len(outcome) else z)

    return bounds


def grouped_share_interval(outcome: Bools, groups: npt.ArrayLike) -> Interval:
    """Return the 95 % interval of a share; `share_bounds` says how.

    Args:
        outcome: ``[N]``, N ≥ 1.
        groups: ``[N]`` names or numbers.
    """
    _, group = np.unique(np.asarray(groups), return_inverse=True)
    return share_bounds(outcome, group.astype(np.int64))(Z95)


def combined_interval(
    coefficients: Sequence[float], values: Sequence[float], intervals: Sequence[Interval], correlation: Floats
) -> Interval:
    """Return the interval of Σ c·θ from those of each θ: the method of variance estimates recovery.

    Each distance from a value to its bound stands for z standard errors there, and they add up as those of correlated
    estimates do. Of one term with c = 1 it is that term's interval.

    Args:
        coefficients: one a term.
        values: estimates.
        intervals: of each estimate alone.
        correlation: ``[K, K]`` of the estimates.

    Source: Newcombe 1998 (method 10) for two; Zou and Donner 2008, Zou 2008 for sums of correlated ones.
    """
    c, value = np.asarray(coefficients, dtype=np.float64), np.asarray(values, dtype=np.float64)
    low, high = np.asarray(intervals, dtype=np.float64).T
    middle = float(c @ value)

    def reach(down: Floats) -> float:
        weighted = c * down
        return math.sqrt(max(0.0, float(weighted @ correlation @ weighted)))

    below, above = value - low, high - value
    return middle - reach(np.where(c > 0, below, above)), middle + reach(np.where(c > 0, above, below))


def student(z: float, freedom: int) -> float:
    """Return the quantile of Student's t with the tail that z has in a normal distribution; a million at most."""
    from scipy.special import ndtr, stdtrit

    # scipy gives +∞ for a tail that is 0, or too small for it.
    return min(1e6, abs(float(stdtrit(freedom, ndtr(-z)))))


def p_of(value: float, interval_at: Callable[[float], Interval]) -> float:
    """Return the two-sided p-value against 0 that an interval stands for: 0 lies on its bound at z, p is 2·Φ(−z).

    Args:
        value: the estimate.
        interval_at: z → interval.
    """
    from scipy.optimize import brentq

    if value == 0:
        return 1.0

    def nearest(z: float) -> float:
        low, high = interval_at(z)
        return low if value > 0 else -high

    if nearest(FARTHEST) > 0:
        return 0.0
    z = float(brentq(nearest, 1e-9, FARTHEST, xtol=1e-6)) if nearest(1e-9) > 0 else 0.0
    return 2 * NormalDist().cdf(-z)
