"""How good are scores: ranking (AUC), squared error (Brier) and calibration (ECE, bins)."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

BINS = 15
"""Choice: 15 bins, the usual number for ECE; equal mass, so that no bin is empty or tiny."""


@dataclass(frozen=True)
class ReliabilityBin:
    """Samples of about the same score: what was predicted against what came true."""

    n: int
    score: float
    accuracy: float


def auc(correct: Bools, score: Floats) -> float | None:
    """Return the share of (right, wrong) pairs in which the right one scores higher; ties count half.

    Args:
        correct: ``[N]``.
        score: ``[N]``, higher means more likely right.

    Returns:
        The ROC-AUC, or None when one class is absent: it is undefined then, not 0.5.
    """
    wrong = np.sort(score[~correct])
    right = score[correct]
    if not len(wrong) or not len(right):
        return None
    below = np.searchsorted(wrong, right, side="left").sum()
    up_to = np.searchsorted(wrong, right, side="right").sum()
    return float(below + up_to) / (2.0 * len(wrong) * len(right))


def auc_null_reason(correct: Bools) -> str | None:
    """Say why the AUC of these labels is undefined, or None when it is defined."""
    n_right, n = int(correct.sum()), len(correct)
    if 0 < n_right < n:
        return None
    if n == 0:
        return "no samples"
    return f"all {n:,} answers are {'right' if n_right else 'wrong'}: AUC needs both kinds"


def brier(correct: Bools, score: Floats) -> float:
    """Return the mean squared distance between score and outcome, in [0, 1]; lower is better."""
    return float(np.mean((score - correct) ** 2))


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


def ece(correct: Bools, score: Floats, bins: int = BINS) -> float:
    """Return the expected calibration error: the mean distance of score and accuracy over the bins."""
    filled = reliability(correct, score, bins)
    return sum(b.n * abs(b.score - b.accuracy) for b in filled) / len(score)
