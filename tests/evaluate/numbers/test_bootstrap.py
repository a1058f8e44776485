"""The bootstrap against one scikit-learn call a resample, and its statistics."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from relope.errors import InvalidInputError
from relope.evaluate.numbers import bootstrap, estimates
from relope.evaluate.numbers.bootstrap import bootstrap_auc, draws_for, resample_weights
from relope.evaluate.numbers.estimates import difference, drawn_interval
from relope.evaluate.numbers.significance import judged


def synthetic(n=300, digits=8, seed=0):
    rng = np.random.default_rng(seed)
    correct = rng.random(n) < 0.6
    scores = np.clip(rng.normal(0.5 + 0.1 * correct, 0.15, (3, n)), 0, 1).round(digits)
    return correct, scores, np.char.add("g", rng.integers(0, n // 3, n).astype(str))


@pytest.mark.parametrize("digits", [1, 8])
def test_every_resample_equals_scikit_learn(digits):
    correct, scores, groups = synthetic(digits=digits)
    ours = bootstrap_auc(correct, scores, groups, resamples=50, seed=4)
    weights = np.concatenate(list(resample_weights(groups, 50, 4)), axis=1)
    theirs = [[roc_auc_score(correct, row, sample_weight=column) for column in weights.T] for row in scores]
    np.testing.assert_allclose([auc.resampled for auc in ours], theirs, rtol=0, atol=1e-12)
    assert [auc.value for auc in ours] == pytest.approx([roc_auc_score(correct, row) for row in scores], abs=1e-12)


def test_a_group_is_drawn_as_a_whole_and_as_many_as_there_are():
    groups = np.array(["a", "b", "a", "c", "b"])
    weights = np.concatenate(list(resample_weights(groups, 40, 0)), axis=1)
    assert (weights[0] == weights[2]).all() and (weights[1] == weights[4]).all()
    assert (weights[0] + weights[1] + weights[3] == 3).all()
    assert len(np.unique(weights[0])) > 1


def test_chunks_do_not_change_the_draws(monkeypatch):
    correct, scores, groups = synthetic()
    whole = bootstrap_auc(correct, scores, groups, resamples=40, seed=2)
    monkeypatch.setattr(bootstrap, "CHUNK_BYTES", 8 * len(correct) * 7)
    for one, other in zip(whole, bootstrap_auc(correct, scores, groups, 40, seed=2), strict=True):
        np.testing.assert_array_equal(one.resampled, other.resampled)


def test_resamples_with_one_class_are_undefined_and_left_out_of_the_interval(monkeypatch):
    monkeypatch.setattr(estimates, "RESAMPLED_FROM", 1)  # as if so few were enough
    correct = np.array([True, False, False])
    groups = np.array(["a", "b", "c"])
    (auc,) = bootstrap_auc(correct, np.array([[0.1, 0.2, 0.05]]), groups, resamples=400, seed=0)
    weights = np.concatenate(list(resample_weights(groups, 400, 0)), axis=1)
    one_class = (weights[0] == 0) | (weights[0] == 3)
    assert one_class.any() and (np.isnan(auc.resampled) == one_class).all()
    assert auc.ci95 == pytest.approx(tuple(np.percentile(auc.resampled[~one_class], (2.5, 97.5))))


def test_one_class_gives_no_interval_and_no_difference():
    first, second = bootstrap_auc(
        np.array([True, True]), np.array([[0.1, 0.2], [0.3, 0.4]]), np.array(["a", "b"]), 20, 0
    )
    assert first.known is None and first.ci95 is None and np.isnan(first.resampled).all()
    assert first.minus(second).test() is None


def test_difference_is_paired_and_points_the_right_way():
    rng = np.random.default_rng(0)
    correct = rng.random(800) < 0.5
    weak = np.clip(rng.normal(0.5 + 0.05 * correct, 0.1), 0, 1)
    strong = np.clip(weak + 0.04 * correct, 0, 1)
    low, high = bootstrap_auc(correct, np.stack([weak, strong]), np.arange(800).astype(str), 500, 0)
    better, worse = high.minus(low).test(), low.minus(high).test()
    assert better.value == high.value - low.value == -worse.value
    assert judged(better).verdict == "higher" and judged(worse).verdict == "lower"
    assert better.p == worse.p == pytest.approx(2 / 501)
    # paired: much narrower than if the two were resampled apart
    assert high.minus(low).resampled.std() < 0.6 * np.hypot(low.resampled.std(), high.resampled.std())


def test_equal_methods_show_no_difference():
    correct, scores, groups = synthetic()
    first, second = bootstrap_auc(correct, scores[[0, 0]], groups, 100, 0)
    gap = judged(first.minus(second).test())
    assert (gap.value, gap.ci95, gap.p) == (0, (0, 0), 1)
    assert gap.verdict == "no difference shown"


def test_p_value_worked_by_hand():
    first, second = np.array([[0.8, 0.7, 0.6, 0.4], [0.5, 0.5, 0.5, 0.5]])
    # one of four differences is ≤ 0: 2·(1+1)/(4+1)
    assert difference(0.7, 0.5, first, second).p == pytest.approx(0.8)


def test_intervals_cover_at_about_the_stated_rate_when_samples_share_images():
    """Groups of four with the same label and nearly the same score: n_eff is a quarter of n."""
    rng, truth, hits, naive_hits = np.random.default_rng(5), 0.7602, 0, 0
    for trial in range(120):
        label = np.repeat(rng.random(60) < 0.5, 4)
        score = np.repeat(rng.normal(0, 1, 60), 4) + label  # AUC = Φ(1/√2) = 0.7602
        score = 1 / (1 + np.exp(-score))
        groups = np.repeat(np.arange(60), 4).astype(str)
        low, high = bootstrap_auc(label, score[None], groups, 200, trial)[0].ci95
        hits += low <= truth <= high
        low, high = bootstrap_auc(label, score[None], np.arange(240).astype(str), 200, trial)[0].ci95
        naive_hits += low <= truth <= high
    assert 0.86 <= hits / 120 <= 1
    assert naive_hits / 120 < 0.8


def test_interval_equals_numpy_percentiles():
    assert drawn_interval(0.5, np.linspace(0, 1, 101), normal=False) == pytest.approx((0.025, 0.975))


def test_few_resamples_give_the_interval_of_their_deviation():
    drawn = np.random.default_rng(0).normal(0.7, 0.05, 300)
    low, high = drawn_interval(0.71, drawn, normal=True)
    assert (low + high) / 2 == pytest.approx(0.71) and (high - low) / 2 == pytest.approx(1.959964 * drawn.std(ddof=1))


def test_very_many_samples_take_fewer_resamples_and_never_more_than_asked_for():
    assert [draws_for(n, 2000) for n in (300, 20_000, 40_000, 200_000, 10**7)] == [2000, 2000, 500, 100, 100]
    assert draws_for(10**6, 50) == 50 and draws_for(3000, 20_000) == 20_000


@pytest.mark.parametrize(("rows", "resamples"), [(4, 10), (3, 0)])
def test_inputs_that_do_not_fit_are_refused(rows, resamples):
    with pytest.raises(InvalidInputError):
        bootstrap_auc(np.array([True, False, True]), np.zeros((1, rows)), np.array(["a", "b", "c"]), resamples)
