"""Promises: exact where there is a formula, never above their risk in simulation; the table they come from."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.stats
from scipy.stats import beta, binomtest
from sklearn.linear_model import LogisticRegression

from relope.evaluate.numbers.calibration import fit_calibration, platt
from relope.evaluate.numbers.estimates import Population
from relope.evaluate.numbers.guarantee import (
    ACCURACY,
    ERROR,
    SHARE,
    Promise,
    fallback,
    independent,
    over_all,
    promise_accuracy,
    promise_budget,
    promise_error,
)
from relope.evaluate.numbers.thresholds import Outcomes, threshold_row, threshold_table


def test_a_budget_s_threshold_is_the_highest_order_statistic_that_keeps_it():
    scores = np.random.default_rng(0).permutation(200) / 200
    promise = promise_budget(scores, 0.2, 0.95)
    k = int((scores < promise.threshold).sum()) + 1
    assert beta.ppf(0.95, k, 200 - k + 1) <= 0.2 < beta.ppf(0.95, k + 1, 200 - k)
    assert promise_budget(scores[:13], 0.2, 0.95).threshold is None
    assert promise_budget(scores[:13], 0.2, 0.95).n_needed == 14
    assert promise_budget(scores[:14], 0.2, 0.95).threshold is not None


def test_ties_are_kept():
    promise = promise_budget(np.repeat([0.1, 0.5, 0.9], 100), 0.4, 0.95)
    assert promise.threshold == 0.5 and promise.observed == pytest.approx(1 / 3)
    assert promise_budget(np.full(100, 0.5), 0.2, 0.95).observed == 0


def test_the_fallback_procedure_is_wiens_and_dmitrienko_s():
    assert fallback([0.01, 0.02, 0.03, 0.04], 0.04).tolist() == [True, True, True, True]
    assert fallback([0.02, 0.01, 0.03, 0.03], 0.04).tolist() == [False, True, False, False]
    assert fallback([0.5, 0.5, 0.01, 0.02], 0.04).tolist() == [False, False, True, True]


def test_errors_are_kept_by_the_exact_binomial_test():
    rng = np.random.default_rng(1)
    scores = rng.random(2000)
    wrong = rng.random(2000) < 0.7 * (1 - scores) ** 1.5
    promise = promise_error(scores, wrong, 0.15, 0.95)
    kept = scores >= promise.threshold
    assert promise.observed == wrong[kept].mean() < 0.15
    assert binomtest(int(wrong[kept].sum()), int(kept.sum()), 0.15, alternative="less").pvalue <= 0.05
    none = promise_error(scores, np.ones(2000, bool), 0.15, 0.95)
    assert none.threshold is None and none.n_needed is None, "no number of samples makes a bad router good"
    few = promise_error(scores[:40], wrong[:40], 0.15, 0.95)
    assert few.threshold is None and 40 < few.n_needed < 2000


def test_a_promise_over_all_samples_by_hand():
    scores, right = np.array([0.1, 0.2, 0.6, 0.9]), np.array([False, True, False, True])
    large = np.array([True, True, False, False])
    for holds, value, breaks in ((SHARE, 0.5, True), (ERROR, 0.5, True), (ACCURACY, 0.75, False)):
        promise = Promise(holds, 0.4, 0.95, 4, 0.5, 0.1, None)
        assert over_all(promise, scores, right, large) == value and not promise.broken_on_all
        assert replace(promise, on_all=value).broken_on_all is breaks
    assert replace(promise, on_all=0.3).broken_on_all, "an accuracy is broken from below"
    none = Promise(ERROR, 0.4, 0.95, 4, 0.95, 0.1, None)
    assert over_all(none, scores, right) is None


def test_the_system_s_accuracy_counts_both_models():
    rng = np.random.default_rng(2)
    scores, large = rng.random(3000), rng.random(3000) < 0.9
    right = rng.random(3000) < scores
    promise = promise_accuracy(scores, right, large, 0.75, 0.95)
    system = np.where(scores < promise.threshold, large, right)
    assert promise.observed == pytest.approx(system.mean()) and system.mean() > 0.75
    less = promise_accuracy(scores, right, large, 0.6, 0.95)
    assert less.threshold < promise.threshold, "a lower bar escalates less"


@pytest.mark.parametrize("n", [100, 500])
def test_a_promise_is_broken_no_more_often_than_it_says(n):
    rng, broken = np.random.default_rng(n), 0
    for _ in range(400):
        scores = rng.random(n)
        promise = promise_error(scores, rng.random(n) < 0.6 * (1 - scores), 0.2, 0.9)
        if promise.threshold is not None:
            broken += 0.6 * (1 - promise.threshold) / 2 > 0.2
    assert broken / 400 <= 0.1 + 3 * np.sqrt(0.1 * 0.9 / 400)


def test_one_sample_of_a_group_stands_for_it():
    groups = np.array([f"g{i // 3}" for i in range(90)])
    first, second = independent(groups, 0), independent(groups, 1)
    assert len(first) == len(set(groups[first])) == 30 and first.tolist() != second.tolist()
    assert independent(groups, 0).tolist() == first.tolist()


def test_rows_are_hand_computed():
    scores, right = np.arange(10) / 10, np.array([0, 1, 0, 0, 1, 1, 1, 1, 1, 1], bool)
    large = np.ones(10, bool)
    population = Population.of(np.arange(10).astype(str), 0)
    system = threshold_table(scores, Outcomes(right, large, np.full(10, 1.0), np.full(10, 3.0)), population)
    row = next(row for row in system if row.share == 0.4)
    assert row.accuracy == 1.0 and row.dollars == pytest.approx(1.8) and row.accuracy_ci95[0] < 0.8
    priced = Outcomes(right, large, np.ones(10), np.full(10, 3.0))
    grouped = Population.of(np.arange(10) // 2, 0)  # costs of 3, 3; 3, 3; 1, 1 … in five groups
    low, high = threshold_row(40, 0.35, scores, priced, grouped).dollars_ci95
    deviation = np.sqrt(2 * (2 * 1.2 / 10) ** 2 + 3 * (2 * 0.8 / 10) ** 2)
    assert (high - low) / 2 == pytest.approx(scipy.stats.t.ppf(0.975, 4) * deviation)
    alone = Population.of(np.zeros(10), 0)
    assert threshold_row(40, 0.35, scores, priced, alone).dollars_ci95 is None
    kept = threshold_table(scores, Outcomes(right), population)
    assert next(row for row in kept if row.share == 0.2).accuracy == pytest.approx(6 / 8)
    assert all(row.dollars is None for row in kept)


def test_calibration_follows_sklearn_and_never_falls():
    rng = np.random.default_rng(3)
    scores = rng.random(800)
    correct = rng.random(800) < scores**2
    at = np.linspace(0.05, 0.95, 7)
    logit = np.log(scores / (1 - scores))[:, None]
    reference = LogisticRegression(C=1e9).fit(logit, correct)
    assert np.allclose(
        platt(scores, correct, at), reference.predict_proba(np.log(at / (1 - at))[:, None])[:, 1], atol=0.01
    )
    for kind in ("isotonic", "platt"):
        calibrated = fit_calibration(scores, correct, kind)
        values = calibrated(np.linspace(0, 1, 50))
        assert calibrated.kind == kind and (np.diff(values) >= -1e-12).all() and abs(values.mean() - 1 / 3) < 0.05
    assert (
        fit_calibration(scores, correct).kind == "platt"
        and fit_calibration(np.tile(scores, 2), np.tile(correct, 2)).kind == "isotonic"
    )
