"""What a router is worth: accuracy of the system against the share of questions it escalates."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from relope.errors import InvalidInputError
from relope.evaluate.numbers.metrics import Bools, Floats, Ints

PERCENTS = tuple(range(101))
MARKS = (10, 20, 50)
"""Percent escalated at which accuracies are quoted."""

Kind = Literal["system", "kept"]


@dataclass(frozen=True)
class RoutingCurve:
    """Accuracy at 0, 1, …, 100 % escalated.

    Attributes:
        kind: ``system``, with the large model answering what is escalated; ``kept`` when its
            labels are unknown: accuracy of the small model on what it keeps.
        ratios: ``[101]`` share escalated.
        accuracy: ``[101]``; NaN where nothing is kept (``kept`` only), as in ``oracle``.
        random: ``[101]`` expectation when as many are picked at random.
        oracle: ``[101]`` the best that any order can reach at that share.
        small_accuracy: with nothing escalated.
        large_accuracy: with everything escalated, None when unknown.
        area_over_random: mean lead over ``random`` in accuracy points (0…100), by trapezoids.
        oracle_share: that area as a share of the oracle's, None when the oracle has none.
    """

    kind: Kind
    ratios: Floats
    accuracy: Floats
    random: Floats
    oracle: Floats
    small_accuracy: float
    large_accuracy: float | None
    area_over_random: float
    oracle_share: float | None

    def accuracy_at(self, marks: Sequence[int] = MARKS) -> dict[str, float | None]:
        """Return the accuracy at 10, 20 and 50 % escalated, or at other marks, keyed ``0.1``, ``0.2``, ``0.5``."""
        return {mark_key(mark): number(float(self.accuracy[mark])) for mark in marks}


def mark_key(percent: int) -> str:
    """Return how a share is spelt in JSON: 20 → ``0.2``."""
    return f"{percent / 100:g}"


def number(value: float) -> float | None:
    """Return the value, None for NaN: JSON has none."""
    return value if np.isfinite(value) else None


def n_escalated(n: int, percent: int) -> int:
    """Return k = ⌈r·n⌉, in integers so that 20 % of 5 is 1."""
    return -(-percent * n // 100)


def escalation_order(score: Floats, seed: int) -> Ints:
    """Return ``[N]`` indices, lowest score first; equal scores in the order of a seeded permutation."""
    return np.lexsort((np.random.default_rng(seed).permutation(len(score)), score))


def oracle_order(small_correct: Bools, large_correct: Bools | None) -> Ints:
    """Return ``[N]`` indices: what escalation mends first, then what it leaves, then what it spoils."""
    if large_correct is None:
        return np.argsort(small_correct, kind="stable")
    return np.argsort(small_correct.astype(np.int64) - large_correct.astype(np.int64), kind="stable")


def delta(small: Bools, large: Bools | None) -> Floats:
    """Return ``[N]`` what escalating a sample adds to the number of right answers that count."""
    return (0.0 if large is None else large.astype(np.float64)) - small.astype(np.float64)


def system_accuracies(order: Ints, small: Bools, large: Bools | None) -> Floats:
    """Return ``[101]`` accuracies when 0, 1, …, 100 % of a queue are escalated, or of what is kept then."""
    n = len(order)
    added = np.concatenate([[0.0], np.cumsum(delta(small, large)[order])])
    k = np.array([n_escalated(n, percent) for percent in PERCENTS])
    right = small.sum() + added[k]
    counted = np.full(len(k), n) if large is not None else n - k
    return np.asarray(np.divide(right, counted, out=np.full(len(k), np.nan), where=counted > 0))


def _lead(curve: Floats, random: Floats, ratios: Floats) -> float:
    """Return the area between two curves in accuracy points, over the ratios where both exist."""
    known = np.isfinite(curve)
    width = float(np.ptp(ratios[known]))
    return 100 * float(np.trapezoid((curve - random)[known], ratios[known])) / width if width else 0.0


def routing_curve(score: Floats, small_correct: Bools, large_correct: Bools | None, seed: int) -> RoutingCurve:
    """Return the curve of one router: the k = ⌈r·n⌉ lowest scores go to the large model.

    Without labels of the large model nothing is assumed about it: the curve is then the small
    model's accuracy on what it keeps.

    Raises:
        InvalidInputError: lengths disagree or there are no samples.
    """
    n = len(score)
    if not n or len(small_correct) != n or (large_correct is not None and len(large_correct) != n):
        sizes = f"{n} scores, {len(small_correct)} labels of the small model"
        more = "" if large_correct is None else f", {len(large_correct)} of the large one"
        raise InvalidInputError(f"a routing curve got {sizes}{more}; pass N of each, N ≥ 1")
    ratios = np.array(PERCENTS) / 100
    small = float(small_correct.mean())
    large = None if large_correct is None else float(large_correct.mean())
    # As many as the router escalates, which at few samples are more than the share.
    as_many = np.array([n_escalated(n, percent) for percent in PERCENTS]) / n
    random = np.full(len(ratios), small) if large is None else small + (large - small) * as_many
    curve = system_accuracies(escalation_order(score, seed), small_correct, large_correct)
    oracle = system_accuracies(oracle_order(small_correct, large_correct), small_correct, large_correct)
    area, best = _lead(curve, random, ratios), _lead(oracle, random, ratios)
    share = area / best if best > 1e-9 else None
    kind: Kind = "kept" if large is None else "system"
    return RoutingCurve(kind, ratios, curve, random, oracle, small, large, area, share)


def mean_curve(curves: list[RoutingCurve]) -> RoutingCurve:
    """Return the mean of the curves that several seeds of one method have on the same samples."""
    first = curves[0]
    if len(curves) == 1:
        return first
    area = float(np.mean([curve.area_over_random for curve in curves]))
    shares = [curve.oracle_share for curve in curves if curve.oracle_share is not None]
    return dataclasses.replace(
        first,
        accuracy=np.mean([curve.accuracy for curve in curves], axis=0),
        area_over_random=area,
        oracle_share=float(np.mean(shares)) if shares else None,
    )
