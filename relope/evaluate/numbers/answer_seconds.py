"""How long a model's answers took: measured of each, or as a run's seconds over its samples."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class AnswerSeconds:
    """Seconds that answers of a model took.

    Attributes:
        model: that answered.
        where: device and engine of runs; ``""`` of an endpoint.
        n: answers that were measured.
        mean: seconds a query.
        p50: half of them took no longer; None where each was not measured by itself.
        p95: of twenty, nineteen took no longer; likewise.
        holds_traces: whether sampled traces and p(True) are in it, which an engine could not tell apart.
    """

    model: str
    where: str = ""
    n: int
    mean: float
    p50: float | None = None
    p95: float | None = None
    holds_traces: bool = False


def of_each(model: str, seconds: Sequence[float]) -> AnswerSeconds:
    """Return what answers took of which each was measured; at least one."""
    p50, p95 = np.quantile(seconds, (0.5, 0.95), method="inverted_cdf")
    return AnswerSeconds(model=model, n=len(seconds), mean=float(np.mean(seconds)), p50=float(p50), p95=float(p95))
