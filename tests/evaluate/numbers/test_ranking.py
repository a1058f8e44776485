"""AUCs of rankings against scikit-learn and a case worked by hand."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from relope.evaluate.numbers.ranking import rank, weighted_auc


def auc(correct, score):
    return weighted_auc(rank(correct, score), np.ones((len(score), 1)))[0]


def test_auc_counts_ties_half():
    # pairs (right, wrong): .9>.5, .9>.1, .5=.5 (half), .5>.1 → 3.5 of 4
    assert auc(np.array([True, True, False, False]), np.array([0.9, 0.5, 0.5, 0.1])) == 3.5 / 4


@pytest.mark.parametrize("digits", [1, 2, 8])
def test_auc_equals_scikit_learn(digits):
    rng = np.random.default_rng(digits)
    correct = rng.random(500) < 0.3
    score = np.round(rng.random(500) * 0.7 + 0.3 * correct * rng.random(500), digits)
    assert auc(correct, score) == pytest.approx(roc_auc_score(correct, score), abs=1e-12)


@pytest.mark.parametrize("value", [True, False])
def test_auc_of_one_class_is_undefined(value):
    assert np.isnan(auc(np.full(3, value), np.array([0.1, 0.2, 0.3])))
