"""Metrics against scikit-learn and cases worked by hand."""

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, roc_auc_score

from relope.evaluate.numbers.metrics import auc, auc_null_reason, brier, ece, mass_bins, reliability


def test_auc_counts_ties_half():
    # pairs (right, wrong): .9>.5, .9>.1, .5=.5 (half), .5>.1 → 3.5 of 4
    correct = np.array([True, True, False, False])
    assert auc(correct, np.array([0.9, 0.5, 0.5, 0.1])) == 3.5 / 4


@pytest.mark.parametrize("digits", [1, 2, 8])
def test_auc_equals_scikit_learn(digits):
    rng = np.random.default_rng(digits)
    correct = rng.random(500) < 0.3
    score = np.round(rng.random(500) * 0.7 + 0.3 * correct * rng.random(500), digits)
    assert auc(correct, score) == pytest.approx(roc_auc_score(correct, score), abs=1e-12)


@pytest.mark.parametrize(
    ("labels", "reason"), [([True] * 3, "all 3 answers are right"), ([False] * 3, "all 3 answers are wrong")]
)
def test_auc_of_one_class_is_none_with_a_reason(labels, reason):
    correct = np.array(labels)
    assert auc(correct, np.array([0.1, 0.2, 0.3])) is None
    assert auc_null_reason(correct).startswith(reason)


def test_a_defined_auc_has_no_null_reason():
    assert auc_null_reason(np.array([True, False])) is None


def test_brier_equals_scikit_learn():
    rng = np.random.default_rng(0)
    correct, score = rng.random(200) < 0.5, rng.random(200)
    assert brier(correct, score) == pytest.approx(brier_score_loss(correct, score), abs=1e-12)


def test_bins_hold_equal_mass_and_keep_ties_together():
    assert mass_bins(np.array([0.6, 0.1, 0.2, 0.5, 0.4, 0.3]), bins=3).tolist() == [2, 0, 0, 2, 1, 1]
    assert len(set(mass_bins(np.full(30, 0.7), bins=15).tolist())) == 1


def test_ece_worked_by_hand():
    # two bins of two: scores (.2, .4) mean .3, accuracy 0 → .3; (.6, .8) mean .7, accuracy .5 → .2
    correct, score = np.array([False, False, True, False]), np.array([0.2, 0.4, 0.6, 0.8])
    assert ece(correct, score, bins=2) == pytest.approx((0.3 + 0.2) / 2)
    assert [(b.n, b.accuracy) for b in reliability(correct, score, bins=2)] == [(2, 0.0), (2, 0.5)]


def test_ece_does_not_depend_on_the_order_of_tied_samples():
    rng = np.random.default_rng(1)
    correct, score = rng.random(400) < 0.5, rng.integers(0, 7, 400) / 7
    shuffled = rng.permutation(400)
    assert ece(correct, score) == pytest.approx(ece(correct[shuffled], score[shuffled]), abs=1e-12)
