"""Scores turned into probabilities: out of fold for a report, as a map that is kept for a bundle."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from relope.evaluate.numbers.metrics import Bools, Floats, Groups, Ints

FOLDS = 5

Kind = Literal["isotonic", "platt"]

FREE_FROM = 1000
"""Choice: samples from which on isotonic regression is taken unless asked otherwise; below it follows the noise."""

POINTS = 201
"""Points that a map is kept at, at quantiles of the scores."""

_EDGE = 1e-6


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """A rising map from scores to P(correct), linear between its points.

    Attributes:
        kind: what was fitted.
        scores: ``[K]``, ascending.
        correct: ``[K]`` P(correct) there.
    """

    kind: Kind
    scores: tuple[float, ...]
    correct: tuple[float, ...]

    def __call__(self, scores: Floats) -> Floats:
        """Return P(correct) of scores."""
        return np.asarray(np.interp(scores, self.scores, self.correct))


def fit_calibration(scores: Floats, correct: Bools, kind: Kind | None = None) -> Calibration:
    """Fit the map on samples that the router has not seen.

    Args:
        scores: ``[N]`` in [0, 1].
        correct: ``[N]``.
        kind: None takes what suits N.
    """
    kind = kind or ("isotonic" if len(scores) >= FREE_FROM else "platt")
    at = np.unique(np.quantile(scores, np.linspace(0, 1, POINTS)))
    fitted = isotonic(scores, correct, at) if kind == "isotonic" else platt(scores, correct, at)
    return Calibration(kind=kind, scores=tuple(map(float, at)), correct=tuple(map(float, fitted)))


def platt(scores: Floats, correct: Bools, at: Floats) -> Floats:
    """Fit P(correct) = sigmoid(a·logit(score) + b), a ≥ 0; return it ``[K]`` at other scores.

    The targets are pulled off 0 and 1 by the class sizes, so that separable scores have a finite fit.

    Source: Platt 1999, with the targets of his section 2.
    """
    from scipy.optimize import minimize
    from scipy.special import expit

    n_right = int(correct.sum())
    target = np.where(correct, (n_right + 1) / (n_right + 2), 1 / (len(correct) - n_right + 2))
    x = _logit(scores)

    def loss(line: Floats) -> tuple[float, Floats]:
        z = line[0] * x + line[1]
        gap = expit(z) - target
        return float(np.logaddexp(0, z).sum() - target @ z), np.array([gap @ x, gap.sum()])

    slope, shift = minimize(loss, np.array([1.0, 0.0]), jac=True, method="L-BFGS-B", bounds=[(0, None), (None, None)]).x
    return np.asarray(expit(slope * _logit(at) + shift))


def _logit(scores: Floats) -> Floats:
    """Return log-odds of scores in [0, 1], kept off the ends."""
    clipped = np.clip(scores, _EDGE, 1 - _EDGE)
    return np.asarray(np.log(clipped) - np.log1p(-clipped))


def isotonic(score: Floats, correct: Bools, at: Floats) -> Floats:
    """Fit P(correct) as a rising step function of the score; return it ``[K]`` at other scores.

    Pool adjacent violators; scores between two fitted ones are interpolated, as in scikit-learn.
    """
    from scipy.optimize import isotonic_regression

    levels, level = np.unique(score, return_inverse=True)
    n = np.bincount(level).astype(np.float64)
    share = np.bincount(level, weights=correct) / n
    fitted = isotonic_regression(share, weights=n, increasing=True).x
    return np.asarray(np.interp(at, levels, fitted))


def fold_of_groups(groups: Groups, folds: int, seed: int) -> Ints:
    """Return ``[N]`` fold numbers; a group is never cut, and folds differ by one group at most.

    They may differ in samples, where `relope.probes.folds.group_folds` evens those out. Both stay: scores out of fold
    that exist are of these folds.
    """
    names, inverse = np.unique(groups, return_inverse=True)
    numbers = np.arange(len(names)) % max(1, min(folds, len(names)))
    return np.asarray(np.random.default_rng(seed).permutation(numbers)[inverse], dtype=np.int64)


def cross_calibrated(score: Floats, correct: Bools, groups: Groups, seed: int) -> Floats:
    """Return ``[N]`` calibrated scores, each from a fit on the other folds; one group stays in one fold.

    Choice: with fewer than two groups nothing can be held out, so the scores stay as they are.
    """
    fold = fold_of_groups(groups, FOLDS, seed)
    if not fold.max():
        return score.copy()
    calibrated = np.empty(len(score))
    for number in range(int(fold.max()) + 1):
        held = fold == number
        calibrated[held] = isotonic(score[~held], correct[~held], score[held])
    return calibrated
