"""The ROC curve under weights: each method is sorted once, a weighting costs one cumulative sum."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from relope.evaluate.numbers.metrics import Bools, Floats, Ints


@dataclass(frozen=True)
class Ranking:
    """One method's samples, sorted: where each right answer stands among the wrong ones."""

    right: Ints
    wrong: Ints
    below: Ints
    up_to: Ints | None
    """None without ties: then it equals ``below``."""


def rank(correct: Bools, score: Floats) -> Ranking:
    """Sort right and wrong answers by score."""
    right, wrong = np.flatnonzero(correct), np.flatnonzero(~correct)
    right = right[np.argsort(score[right], kind="stable")]
    wrong = wrong[np.argsort(score[wrong], kind="stable")]
    below = np.searchsorted(score[wrong], score[right], side="left")
    up_to = np.searchsorted(score[wrong], score[right], side="right")
    return Ranking(right, wrong, below, None if np.array_equal(below, up_to) else up_to)


def auc_influence(ranking: Ranking) -> tuple[float, Floats]:
    """Return the AUC, and ``[N]`` what each sample adds to it to first order: how far its placement is from the mean.

    A right answer's placement is the share of wrong ones below it, a wrong one's the share of right ones above it;
    ties count half. The squares add up to DeLong's variance but for its m − 1 in place of m.

    Source: DeLong, DeLong and Clarke-Pearson 1988; Jaeckel 1972 (infinitesimal jackknife).
    """
    n_right, n_wrong = len(ranking.right), len(ranking.wrong)
    up_to = ranking.below if ranking.up_to is None else ranking.up_to
    beats = (ranking.below + up_to) / (2 * n_wrong)
    ranks = np.arange(n_wrong)
    not_above = np.searchsorted(ranking.below, ranks, side="right") + np.searchsorted(up_to, ranks, side="right")
    beaten = 1 - not_above / (2 * n_right)
    auc = float(beats.mean())
    influence = np.empty(n_right + n_wrong)
    influence[ranking.right] = (beats - auc) / n_right
    influence[ranking.wrong] = (beaten - auc) / n_wrong
    return auc, influence


def weighted_auc(ranking: Ranking, weights: Floats) -> Floats:
    """Return ``[r]`` AUCs under each column of ``weights``; NaN where one class has no weight."""
    return area_and_tpr(ranking, weights, ())[0]


def area_and_tpr(ranking: Ranking, weights: Floats, rates: Sequence[float]) -> list[Floats]:
    """Return ``[r]`` AUCs, then for each false-positive rate the highest true-positive rate within it.

    As scikit-learn's ``roc_curve``, answers of equal score pass a threshold together.
    """
    lower = np.zeros((len(ranking.wrong) + 1, weights.shape[1]))
    np.cumsum(weights[ranking.wrong], axis=0, out=lower[1:])
    right = weights[ranking.right]
    beaten = lower[ranking.below]
    won = np.einsum("nr,nr->r", right, beaten)
    if ranking.up_to is not None:
        won = (won + np.einsum("nr,nr->r", right, lower[ranking.up_to])) / 2
    n_right, n_wrong = right.sum(axis=0), lower[-1]
    pairs = n_right * n_wrong
    undefined, defined = np.full(len(pairs), np.nan), pairs > 0
    values = [np.divide(won, pairs, out=undefined.copy(), where=defined)]
    for rate in rates:
        # Rounding must not turn away a threshold whose rate is exactly the one asked for.
        kept = np.einsum("nr,nr->r", right, n_wrong - beaten <= rate * n_wrong + 1e-9)
        values.append(np.divide(kept, n_right, out=undefined.copy(), where=defined))
    return [np.asarray(value) for value in values]
