"""Bins against cases worked by hand, and when an AUC is undefined."""

import numpy as np
import pytest

from relope.evaluate.numbers.metrics import auc_null_reason, mass_bins, reliability


@pytest.mark.parametrize(
    ("labels", "reason"), [([True] * 3, "all 3 answers are right"), ([False] * 3, "all 3 answers are wrong")]
)
def test_an_auc_of_one_class_is_undefined_for_a_reason(labels, reason):
    assert auc_null_reason(np.array(labels)).startswith(reason)


def test_a_defined_auc_has_no_null_reason():
    assert auc_null_reason(np.array([True, False])) is None


def test_bins_hold_equal_mass_and_keep_ties_together():
    assert mass_bins(np.array([0.6, 0.1, 0.2, 0.5, 0.4, 0.3]), bins=3).tolist() == [2, 0, 0, 2, 1, 1]
    assert len(set(mass_bins(np.full(30, 0.7), bins=15).tolist())) == 1


def test_reliability_worked_by_hand():
    # two bins of two: scores (.2, .4) mean .3, accuracy 0; (.6, .8) mean .7, accuracy .5
    correct, score = np.array([False, False, True, False]), np.array([0.2, 0.4, 0.6, 0.8])
    bins = [(b.n, pytest.approx(b.score), b.accuracy) for b in reliability(correct, score, bins=2)]
    assert bins == [(2, 0.3, 0.0), (2, 0.7, 0.5)]


def test_bins_do_not_depend_on_the_order_of_tied_samples():
    rng = np.random.default_rng(1)
    correct, score = rng.random(400) < 0.5, rng.integers(0, 7, 400) / 7
    shuffled = rng.permutation(400)
    for one, other in zip(reliability(correct, score), reliability(correct[shuffled], score[shuffled]), strict=True):
        assert (one.n, one.score, one.accuracy) == (other.n, pytest.approx(other.score), other.accuracy)
