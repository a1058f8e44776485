"""Isotonic calibration against scikit-learn, and that nothing is calibrated on itself."""

import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression

from relope.evaluate.numbers.budget import realised_budgets, threshold_for
from relope.evaluate.numbers.calibration import cross_calibrated, fold_of_groups, isotonic


@pytest.mark.parametrize("digits", [1, 8])
def test_isotonic_equals_scikit_learn(digits):
    rng = np.random.default_rng(0)
    score = np.round(rng.random(300), digits)
    correct = rng.random(300) < score**2
    at = rng.random(100)
    theirs = IsotonicRegression(out_of_bounds="clip").fit(score, correct).predict(at)
    assert isotonic(score, correct, at) == pytest.approx(theirs, abs=1e-12)


def test_a_fold_is_calibrated_without_its_own_labels():
    rng = np.random.default_rng(1)
    score = rng.random(200)
    correct = rng.random(200) < score
    groups = np.array([f"g{i // 2}" for i in range(200)])
    fold = fold_of_groups(groups, 5, 0)
    before = cross_calibrated(score, correct, groups, 0)
    flipped = np.where(fold == 2, ~correct, correct)
    after = cross_calibrated(score, flipped, groups, 0)
    assert np.array_equal(before[fold == 2], after[fold == 2]) and not np.array_equal(before, after)
    assert all(len(set(fold[groups == name])) == 1 for name in groups)
    assert np.bincount(fold).tolist() == [40] * 5


def test_one_group_cannot_be_calibrated():
    score = np.array([0.1, 0.9])
    assert cross_calibrated(score, np.array([False, True]), np.array(["a", "a"]), 0).tolist() == [0.1, 0.9]


def test_thresholds_come_from_the_held_out_scores():
    held, test = np.arange(10) / 10, np.array([0.05, 0.15, 0.95, 0.95])
    assert threshold_for(held, 0.2) == 0.2
    budgets = realised_budgets(held, test)
    assert [(budget.requested, budget.realised) for budget in budgets] == [(0.1, 0.25), (0.2, 0.5), (0.5, 0.5)]
