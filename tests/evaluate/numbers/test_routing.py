"""Routing curves worked by hand on five samples, and against brute force."""

import itertools

import numpy as np
import pytest

from relope.errors import InvalidInputError
from relope.evaluate.numbers.bootstrap import resample_weights
from relope.evaluate.numbers.routing import escalation_order, mark_key, n_escalated, routing_curve
from relope.evaluate.numbers.statistics import Labels, SortedScores, statistics

SCORE = np.array([0.9, 0.2, 0.5, 0.1, 0.7])
SMALL = np.array([True, False, True, False, False])
LARGE = np.array([True, True, False, False, True])


def test_k_is_rounded_up_without_rounding_errors():
    assert [n_escalated(5, percent) for percent in (0, 1, 20, 21, 40, 99, 100)] == [0, 1, 1, 2, 2, 5, 5]
    assert n_escalated(100, 29) == 29  # 0.29 · 100 > 29 in floating point


def test_curve_worked_by_hand():
    # escalated in the order 3, 1, 2, 4, 0: right answers 2, 2, 3, 2, 3, 3 of 5
    curve = routing_curve(SCORE, SMALL, LARGE, seed=0)
    assert curve.accuracy[[0, 20, 40, 60, 80, 100]] == pytest.approx([0.4, 0.4, 0.6, 0.4, 0.6, 0.6])
    assert curve.accuracy[[1, 21]] == pytest.approx([0.4, 0.6])
    # oracle: 1 and 4 first (wrong → right), then 0 and 3 (equal), then 2 (right → wrong)
    assert curve.oracle[[0, 20, 40, 60, 80, 100]] == pytest.approx([0.4, 0.6, 0.8, 0.8, 0.8, 0.6])
    # at random as many: 3 of 5 at 50 %
    assert curve.random[[0, 40, 50, 100]] == pytest.approx([0.4, 0.48, 0.52, 0.6])
    assert (curve.small_accuracy, curve.large_accuracy, curve.kind) == (0.4, 0.6, "system")
    assert curve.accuracy_at() == pytest.approx({"0.1": 0.4, "0.2": 0.4, "0.5": 0.4})


def test_area_is_a_trapezoid_in_points():
    curve = routing_curve(SCORE, SMALL, LARGE, seed=0)
    gap, best = curve.accuracy - curve.random, curve.oracle - curve.random
    by_hand = sum((a + b) / 2 for a, b in itertools.pairwise(gap))
    assert curve.area_over_random == pytest.approx(by_hand)
    assert curve.oracle_share == pytest.approx(by_hand / sum((a + b) / 2 for a, b in itertools.pairwise(best)))


def test_ties_follow_a_seeded_permutation():
    flat = np.full(200, 0.5)
    first, again, other = (escalation_order(flat, seed) for seed in (1, 1, 2))
    assert (first == again).all() and (first != other).any() and (first != np.arange(200)).any()
    assert sorted(first.tolist()) == list(range(200))
    tied = escalation_order(np.array([0.5, 0.1, 0.5, 0.9]), 0)
    assert tied[0] == 1 and tied[3] == 3


@pytest.mark.parametrize("with_large", [True, False])
def test_no_curve_beats_the_oracle(with_large):
    rng = np.random.default_rng(0)
    for n in (1, 2, 7, 60):
        small, large = rng.random(n) < 0.5, rng.random(n) < 0.7
        curve = routing_curve(rng.random(n), small, large if with_large else None, seed=0)
        known = np.isfinite(curve.accuracy)
        assert (curve.oracle[known] >= curve.accuracy[known] - 1e-12).all()


def test_oracle_is_the_best_of_all_subsets():
    curve = routing_curve(SCORE, SMALL, LARGE, seed=0)
    for k in range(6):
        subsets = itertools.combinations(range(5), k)
        best = max(np.where(np.isin(np.arange(5), chosen), LARGE, SMALL).mean() for chosen in subsets)
        assert curve.oracle[20 * k] == pytest.approx(best)


def test_without_a_large_model_the_curve_is_accuracy_on_what_is_kept():
    curve = routing_curve(SCORE, SMALL, None, seed=0)
    # kept after 3, 1, 2, 4 leave: 2/5, 2/4, 2/3, 1/2, 1/1, nothing
    assert curve.accuracy[[0, 20, 40, 60, 80]] == pytest.approx([0.4, 0.5, 2 / 3, 0.5, 1.0])
    assert np.isnan(curve.accuracy[100]) and curve.large_accuracy is None and curve.kind == "kept"
    assert (curve.random == 0.4).all()
    assert curve.oracle[[20, 60]] == pytest.approx([0.5, 1.0])


@pytest.mark.parametrize("with_large", [True, False])
def test_resampled_accuracies_equal_repeating_each_sample_as_often_as_it_is_drawn(with_large):
    rng = np.random.default_rng(3)
    n = 90
    score, small, large = rng.random(n).round(1), rng.random(n) < 0.5, rng.random(n) < 0.8
    groups = rng.integers(0, 40, n).astype(str)
    given = large if with_large else None
    labels = Labels(small, given, 6)
    drawn = np.concatenate(list(resample_weights(groups, 30, 6)), axis=1)
    values = statistics(labels, SortedScores.of(score, score, labels), drawn)
    order, weights = escalation_order(score, 6), drawn.astype(int)
    for draw in range(30):
        queue = np.repeat(order, weights[order, draw])
        for percent in (10, 20, 50):
            k = n_escalated(len(queue), percent)
            kept = small[queue[k:]]
            outcome = np.concatenate([large[queue[:k]], kept]) if with_large else kept
            assert values[f"accuracy_at_{mark_key(percent)}"][draw] == pytest.approx(outcome.mean(), abs=1e-12)
        if with_large:
            share = n_escalated(len(queue), 20) / len(queue)
            random = (1 - share) * small[queue].mean() + share * large[queue].mean()
            gain = values["accuracy_at_0.2"][draw] - values["gain_over_random_at_0.2"][draw]
            assert gain == pytest.approx(random)


def test_lengths_that_do_not_match_are_refused():
    with pytest.raises(InvalidInputError, match="4 of the large one"):
        routing_curve(SCORE, SMALL, LARGE[:4], 0)
