"""What is really escalated when a threshold is set for a budget: on held-out scores, as one must."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from relope.evaluate.numbers.metrics import Floats
from relope.evaluate.numbers.routing import MARKS


@dataclass(frozen=True)
class Realised:
    """A budget asked for and what became of it.

    Attributes:
        requested: share that should be escalated.
        threshold: scores below it are escalated.
        realised: share of the test samples that were.
    """

    requested: float
    threshold: float
    realised: float


def thresholds_for(held: Floats, shares: Sequence[float]) -> Floats:
    """Return the threshold of each share: the (k + 1)-th lowest held-out score, k = ⌊share·n⌋.

    Scores below it are escalated, so no share is exceeded on the held-out samples: k of them are, fewer where scores
    tie. The one rule by which `relope predict`, `calibrate` and `evaluate` set a threshold for a budget.

    Args:
        held: ``[V]`` scores.
        shares: each in (0, 1).
    """
    k = np.floor(np.asarray(shares) * len(held) + 1e-9).astype(np.int64)  # 0.29 · 100 is 28.999… in floating point
    return np.asarray(np.sort(held)[np.minimum(k, len(held) - 1)])


def threshold_for(held: Floats, share: float) -> float:
    """Return the threshold of one share, as `thresholds_for`."""
    return float(thresholds_for(held, [share])[0])


def realised_budgets(held: Floats, test: Floats, marks: Sequence[int] = MARKS) -> list[Realised]:
    """Return what each of the quoted budgets turns into on the test samples.

    Args:
        held: ``[V]`` scores that thresholds are set on.
        test: ``[N]`` scores that meet the threshold.
        marks: the budgets in percent.
    """
    thresholds = thresholds_for(held, [mark / 100 for mark in marks])
    return [
        Realised(mark / 100, float(threshold), float((test < threshold).mean()))
        for mark, threshold in zip(marks, thresholds, strict=True)
    ]
