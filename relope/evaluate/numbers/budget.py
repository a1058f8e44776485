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


def threshold_for(held: Floats, share: float) -> float:
    """Return the score below which ``share`` of the held-out samples lie; ties fall on the side kept."""
    return float(np.quantile(held, share, method="higher"))


def realised_budgets(held: Floats, test: Floats, marks: Sequence[int] = MARKS) -> list[Realised]:
    """Return what each of the quoted budgets turns into on the test samples.

    Args:
        held: ``[V]`` scores that thresholds are set on.
        test: ``[N]`` scores that meet the threshold.
        marks: the budgets in percent.
    """
    thresholds = [threshold_for(held, mark / 100) for mark in marks]
    return [
        Realised(mark / 100, threshold, float((test < threshold).mean()))
        for mark, threshold in zip(marks, thresholds, strict=True)
    ]
