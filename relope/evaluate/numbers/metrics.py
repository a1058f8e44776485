"""What the other numbers stand on: when an AUC is undefined, and samples of about the same score."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Groups = npt.NDArray[np.str_] | Ints
"""``[N]`` what samples share an image, by name or by number."""

BINS = 15
"""Choice: 15 bins, the usual number for ECE; equal mass, so that no bin is empty or tiny."""


@dataclass(frozen=True)
class ReliabilityBin:
    """Samples of about the same score: what was predicted against what came true."""

    n: int
    score: float
    accuracy: float


def auc_null_reason(correct: Bools) -> str | None:
    """Say why the AUC of these labels is undefined, or None when it is defined."""
    n_right, n = int(correct.sum()), len(correct)
    if 0 < n_right < n:
        return None
    if n == 0:
        return "no samples"
    return f"all {n:,} answers are {'right' if n_right else 'wrong'}: AUC needs both kinds"


def mass_bins(score: Floats, bins: int = BINS) -> Ints:
    """Return ``[N]`` bin numbers that hold about N / bins samples each.

    Choice: samples of equal score share the bin of their middle rank, so the result does not
    depend on the order of the samples.
    """
    ordered = np.sort(score)
    first = np.searchsorted(ordered, score, side="left")
    after = np.searchsorted(ordered, score, side="right")
    return ((first + after) * bins // (2 * len(score))).astype(np.int64)


def reliability(correct: Bools, score: Floats, bins: int = BINS) -> list[ReliabilityBin]:
    """Return the filled bins in ascending order of score."""
    number = mass_bins(score, bins)
    n = np.bincount(number, minlength=bins)
    score_sum = np.bincount(number, weights=score, minlength=bins)
    right = np.bincount(number, weights=correct, minlength=bins)
    return [ReliabilityBin(int(n[i]), float(score_sum[i] / n[i]), float(right[i] / n[i])) for i in np.flatnonzero(n)]
