"""Influence functions against their definitions, and how estimates add up."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from relope.evaluate.numbers import bootstrap
from relope.evaluate.numbers.bootstrap import bootstrap_auc, resample_weights
from relope.evaluate.numbers.estimates import (
    RESAMPLED_FROM,
    UNKNOWN,
    Population,
    auc_term,
    mean_of,
    share_term,
    weighted_sum,
)
from relope.evaluate.numbers.ranking import auc_influence, rank, weighted_auc


def made(n=400, wrong=120, seed=0, digits=8, per_group=3):
    rng = np.random.default_rng(seed)
    correct = np.ones(n, bool)
    correct[rng.choice(n, wrong, replace=False)] = False
    group = rng.permutation(np.arange(n) // per_group)
    shared = rng.normal(size=group.max() + 1)[group]
    scores = np.stack([shared + 0.8 * rng.normal(size=n) + strength * correct for strength in (0.6, 1.2)]).round(digits)
    return correct, scores, group.astype(str)


@pytest.mark.parametrize("digits", [1, 8])
def test_influence_is_the_derivative_of_the_weighted_auc(digits):
    correct, scores, _ = made(60, 25, digits=digits)
    ranking = rank(correct, scores[0])
    auc, influence = auc_influence(ranking)
    assert auc == pytest.approx(roc_auc_score(correct, scores[0]))
    step = 1e-6
    weights = np.ones((60, 60)) + step * np.eye(60)
    slopes = (weighted_auc(ranking, weights) - auc) / step
    np.testing.assert_allclose(influence, slopes, atol=1e-6)


def test_squared_influence_is_delongs_variance():
    correct, scores, _ = made(digits=2)
    right, wrong = scores[0][correct][:, None], scores[0][~correct][None, :]
    pairs = (right > wrong) + 0.5 * (right == wrong)
    _, influence = auc_influence(rank(correct, scores[0]))
    delong = pairs.mean(axis=1).var() / correct.sum() + pairs.mean(axis=0).var() / (~correct).sum()
    assert (influence**2).sum() == pytest.approx(delong)


def test_variances_over_groups_agree_with_the_bootstrap():
    correct, scores, groups = made(3000, 900)
    population = Population.of(groups, 0)
    rankings = [rank(correct, row) for row in scores]
    weights = np.concatenate(list(resample_weights(groups, 4000, 3)), axis=1)
    first, second = (weighted_auc(ranking, weights) for ranking in rankings)
    one, other = (auc_term(ranking, population).influence for ranking in rankings)
    assert np.sqrt(one @ one) == pytest.approx(first.std(), rel=0.05)
    assert np.linalg.norm(one - other) == pytest.approx((first - second).std(), rel=0.05)


def test_few_groups_of_a_class_take_the_closed_form_and_many_the_percentiles():
    for wrong, drawn in ((RESAMPLED_FROM - 1, False), (RESAMPLED_FROM, True)):
        correct, scores, groups = made(600, wrong, per_group=1)
        (auc,) = bootstrap_auc(correct, scores[:1], groups, 300, 0)
        percentiles = tuple(np.percentile(auc.resampled, (2.5, 97.5)))
        assert (auc.ci95 == pytest.approx(percentiles)) == drawn and auc.n_minority == wrong


def test_of_very_many_samples_nothing_is_drawn_and_the_interval_is_the_bootstraps(monkeypatch):
    correct, scores, groups = made(3000, 900)
    drawn = bootstrap_auc(correct, scores, groups, 4000, 0)
    monkeypatch.setattr(bootstrap, "MANY", 100)
    closed = bootstrap_auc(correct, scores, groups, 4000, 0)
    assert all(auc.resampled is None for auc in closed)
    for one, other in ((closed[0], drawn[0]), (closed[1].minus(closed[0]), drawn[1].minus(drawn[0]))):
        width = other.ci95[1] - other.ci95[0]
        np.testing.assert_allclose(one.ci95, other.ci95, atol=0.06 * width)
        assert one.value == other.value
    assert closed[1].minus(closed[0]).test().p < 1e-4


def test_few_of_a_class_never_give_a_point_and_grouped_ones_a_wider_interval():
    correct = np.array([False, *[True] * 60])
    score = np.arange(61) / 61
    (auc,) = bootstrap_auc(correct, score[None], np.arange(61).astype(str), 200, 0)
    assert auc.value == 1.0 and auc.ci95[1] == 1.0 and auc.ci95[0] < 0.7
    (grouped,) = bootstrap_auc(correct, score[None], (np.arange(61) // 5).astype(str), 200, 0)
    assert grouped.ci95[0] < auc.ci95[0]
    right = share_term(np.ones(20, bool), Population.of(np.arange(20).astype(str), 0))
    assert right.bounds(1.959964) == pytest.approx((0.8389, 1.0), abs=5e-5)  # Newcombe 1998: 0 of 20


def test_paired_estimates_are_correlated_and_those_of_other_samples_are_not():
    correct, scores, groups = made(60, 12, per_group=1)
    noisy = scores[0] + 0.05 * np.random.default_rng(1).normal(size=60)
    first, second = bootstrap_auc(correct, np.stack([scores[0], noisy]), groups, 100, 0)
    (apart,) = bootstrap_auc(correct, noisy[None], groups, 100, 1)
    paired, unpaired = first.minus(second).ci95, first.minus(apart).ci95
    assert paired[1] - paired[0] < 0.6 * (unpaired[1] - unpaired[0])
    assert first.minus(apart).test().p > first.minus(second).test().p or first.value == second.value


def test_means_and_differences_are_those_of_the_numbers():
    correct, scores, groups = made()
    first, second = bootstrap_auc(correct, scores, groups, 50, 0)
    mean = mean_of([first, second])
    assert mean.value == pytest.approx((first.value + second.value) / 2) and len(mean.terms) == 2
    np.testing.assert_allclose(mean.resampled, (first.resampled + second.resampled) / 2)
    assert weighted_sum([(2.0, first), (-1.0, second)]).value == pytest.approx(2 * first.value - second.value)
    assert mean_of([first, UNKNOWN]).known is None and mean_of([]).ci95 is None
    assert first.minus(UNKNOWN).test() is None


def test_a_class_in_few_images_counts_by_its_images():
    correct = np.array([False] * 12 + [True] * 60)
    groups = np.array(["a"] * 6 + ["b"] * 6 + [f"g{i}" for i in range(60)])
    (auc,) = bootstrap_auc(correct, np.linspace(0, 1, 72)[None], groups, 50, 0)
    assert auc.n_minority == 2
