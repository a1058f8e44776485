"""Are two AUCs different: DeLong's test, and Holm's correction for several comparisons."""

from collections.abc import Sequence

import numpy as np

from relope.evaluate.numbers.metrics import Bools, Floats

ALPHA = 0.05


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's adjusted p-values: below α means rejected with a family-wise error of at most α."""
    order = np.argsort(p_values, kind="stable")
    adjusted, highest = [0.0] * len(p_values), 0.0
    for step, place in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - step) * p_values[place]))
        adjusted[place] = highest
    return adjusted


def placements(correct: Bools, score: Floats) -> tuple[Floats, Floats]:
    """Return each right answer's share of wrong ones below it, and each wrong one's of right ones above."""
    right, wrong = score[correct], score[~correct]
    ordered_right, ordered_wrong = np.sort(right), np.sort(wrong)

    def share(values: Floats, others: Floats) -> Floats:
        below = np.searchsorted(others, values, side="left") + np.searchsorted(others, values, side="right")
        return np.asarray(below / (2 * len(others)))

    return share(right, ordered_wrong), 1 - share(wrong, ordered_right)


def delong(correct: Bools, first: Floats, second: Floats) -> float | None:
    """Return the two-sided p-value for AUC(first) = AUC(second) on the same, independent samples.

    None when one class has fewer than two samples; 1 when the two rank every pair alike.

    Source: DeLong, DeLong and Clarke-Pearson 1988; fast form of Sun and Xu 2014.
    """
    from scipy.stats import norm

    n_right = int(correct.sum())
    if min(n_right, len(correct) - n_right) < 2:
        return None
    of_first, of_second = placements(correct, first), placements(correct, second)
    right, wrong = of_first[0] - of_second[0], of_first[1] - of_second[1]
    variance = float(right.var(ddof=1) / len(right) + wrong.var(ddof=1) / len(wrong))
    gap = float(right.mean())
    if variance <= 0:
        return 1.0 if gap == 0 else 0.0
    return float(2 * norm.sf(abs(gap) / np.sqrt(variance)))
