"""Whether live scores still look like those that the threshold was set on."""

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from relope.evaluate.numbers.metrics import Floats

WINDOW = 2000
"""Scores, the newest ones, that are compared."""
LEAST = 100
"""Fewer say nothing."""
BINS = 10
HOURS = 24
BARS = 20
_EMPTY = 0.5
"""Choice: what an empty bin counts, so that its logarithm is finite."""


@dataclass(frozen=True)
class Drift:
    """Live scores against those of the calibration.

    Attributes:
        n: live scores that were compared.
        n_reference: of the calibration.
        psi: population stability index over the calibration's deciles.
        ks: largest distance of the two distribution functions (two-sample Kolmogorov-Smirnov).
        p_value: of ``ks`` where both are independent draws from one distribution. Requests of one user are not, so
            it is a bell to look at, not a proof.
    """

    n: int
    n_reference: int
    psi: float
    ks: float
    p_value: float


def psi(live: Floats, reference: Floats, bins: int = BINS) -> float:
    """Return the population stability index, Σ (p - q)·ln(p / q) over the reference's quantile bins.

    Ties may make bins equal; those are one.

    Source: Siddiqi 2006, *Credit Risk Scorecards*, with its rule of thumb: above 0.25 a shift.
    """
    edges = np.unique(np.quantile(reference, np.linspace(0, 1, bins + 1)[1:-1]))
    p, q = (_shares(np.searchsorted(edges, values, side="right"), len(edges) + 1) for values in (live, reference))
    return float(((p - q) * np.log(p / q)).sum())


def _shares(bins: "np.typing.NDArray[np.int64]", n: int) -> Floats:
    counts = np.maximum(np.bincount(bins, minlength=n).astype(np.float64), _EMPTY)
    return np.asarray(counts / counts.sum())


def drift(live: Sequence[float], reference: Sequence[float]) -> Drift | None:
    """Compare scores; None where either side has too few."""
    if min(len(live), len(reference)) < LEAST:
        return None
    from scipy.stats import ks_2samp

    a, b = np.asarray(live, np.float64), np.asarray(reference, np.float64)
    tested = ks_2samp(a, b, method="asymp")
    return Drift(len(a), len(b), psi(a, b), float(tested.statistic), float(tested.pvalue))


class History:
    """The newest scores, and those of the last day by the hour. Any thread may read and write.

    Args:
        now: a clock, Unix seconds.
    """

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now, self._lock = now, threading.Lock()
        self._newest: deque[float] = deque(maxlen=WINDOW)
        self._hours: deque[tuple[int, list[int]]] = deque()

    def add(self, score: float) -> None:
        """Take a score in [0, 1]."""
        if not math.isfinite(score):
            return
        hour, bar = int(self._now() // 3600), min(BARS - 1, max(0, int(score * BARS)))
        with self._lock:
            self._newest.append(score)
            if not self._hours or self._hours[-1][0] != hour:
                self._hours.append((hour, [0] * BARS))
            self._hours[-1][1][bar] += 1
            self._forget(hour)

    def newest(self) -> list[float]:
        """Return the newest scores."""
        with self._lock:
            return list(self._newest)

    def last_day(self) -> list[int]:
        """Return how many scores of the last 24 hours fall into each twentieth of [0, 1]."""
        with self._lock:
            self._forget(int(self._now() // 3600))
            return [sum(bars[bar] for _, bars in self._hours) for bar in range(BARS)]

    def _forget(self, hour: int) -> None:
        while self._hours and self._hours[0][0] <= hour - HOURS:
            self._hours.popleft()
