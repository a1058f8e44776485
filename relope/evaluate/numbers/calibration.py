"""Scores turned into probabilities by isotonic regression, never on the samples they are judged on."""

import numpy as np

from relope.evaluate.numbers.metrics import Bools, Floats, Groups, Ints

FOLDS = 5


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
    """Return ``[N]`` fold numbers; a group is never cut, and folds have as many groups as can be."""
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
