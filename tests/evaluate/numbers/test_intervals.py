"""Closed-form intervals against printed values of the literature and against scipy."""

import numpy as np
import pytest
from scipy.stats import binomtest, norm, t

from relope.evaluate.numbers.intervals import (
    Z95,
    auc_interval,
    combined_interval,
    design_effect,
    grouped_share_interval,
    modelled_variance,
    p_of,
    share_interval,
    student,
)

ALONE = np.eye(2)


def hanley_mcneil(auc, n_right, n_wrong):
    """Equation 2 of Hanley and McNeil 1982."""
    q1, q2 = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    spread = auc * (1 - auc) + (n_right - 1) * (q1 - auc**2) + (n_wrong - 1) * (q2 - auc**2)
    return spread / (n_right * n_wrong)


@pytest.mark.parametrize(("auc", "n"), [(0.5, 10), (0.76, 40), (0.95, 7)])
def test_at_equal_class_sizes_the_variance_is_hanley_and_mcneils(auc, n):
    assert modelled_variance(auc, n, n) == pytest.approx(hanley_mcneil(auc, n, n), rel=1e-12)


def test_the_standard_error_of_hanley_and_mcneils_example():
    """Their 51 abnormal and 58 normal images: an area of .893 with a standard error of .032."""
    assert np.sqrt(modelled_variance(0.893, 51, 58)) == pytest.approx(0.032, abs=5e-4)


@pytest.mark.parametrize("scale", [1.0, 2.5])
@pytest.mark.parametrize(("auc", "n_right", "n_wrong"), [(0.5, 10, 10), (0.9, 60, 1), (0.98, 300, 5), (0.02, 4, 30)])
def test_a_bound_lies_where_the_estimate_is_z_of_its_errors_away(auc, n_right, n_wrong, scale):
    low, high = auc_interval(auc, n_right, n_wrong, scale)
    assert 0 <= low < auc < high <= 1
    for bound in (low, high):
        error = np.sqrt(scale * modelled_variance(bound, n_right, n_wrong))
        assert abs(bound - auc) / error == pytest.approx(Z95, rel=1e-6)


def test_an_auc_of_1_reaches_1_and_is_no_point():
    for n_right, n_wrong in ((60, 1), (13, 1), (7, 7), (10_000, 3)):
        low, high = auc_interval(1.0, n_right, n_wrong, 1.0)
        assert high == 1.0 and 0.1 < low < 0.95
    low, high = auc_interval(0.0, 60, 1, 1.0)
    assert low == 0.0 and high == pytest.approx(1 - auc_interval(1.0, 60, 1, 1.0)[0], abs=1e-9)


@pytest.mark.parametrize(
    ("right", "n", "printed"),
    [(81, 263, (0.2553, 0.3662)), (15, 148, (0.0624, 0.1605)), (0, 20, (0, 0.1611)), (1, 29, (0.0061, 0.1718))],
)
def test_shares_as_newcombe_1998_prints_them(right, n, printed):
    """Table I of *Two-sided confidence intervals for the single proportion*, method 3."""
    assert share_interval(right / n, n) == pytest.approx(printed, abs=5e-5)
    theirs = binomtest(right, n).proportion_ci(method="wilson")
    assert share_interval(right / n, n) == pytest.approx((theirs.low, theirs.high), abs=1e-9)


@pytest.mark.parametrize(
    ("first", "second", "printed"),
    [((56, 70), (48, 80), (0.0524, 0.3339)), ((9, 10), (3, 10), (0.1705, 0.8090)), ((10, 10), (0, 20), (0.6791, 1))],
)
def test_differences_as_newcombe_1998_prints_them(first, second, printed):
    """Table II of *Interval estimation for the difference between independent proportions*, method 10."""
    shares = [right / n for right, n in (first, second)]
    intervals = [share_interval(right / n, n) for right, n in (first, second)]
    assert combined_interval([1, -1], shares, intervals, ALONE) == pytest.approx(printed, abs=5e-5)


def test_one_term_keeps_its_interval_and_normal_ones_add_up_as_variances_do():
    assert combined_interval([1], [0.7], [(0.2, 0.8)], np.eye(1)) == pytest.approx((0.2, 0.8))
    correlation = np.array([[1, 0.6], [0.6, 1]])
    errors = np.array([0.03, 0.05])
    bounds = [(value - Z95 * error, value + Z95 * error) for value, error in zip((0.7, 0.6), errors, strict=True)]
    variance = errors @ (correlation * np.outer([1, -1], [1, -1])) @ errors
    expected = 0.1 - Z95 * np.sqrt(variance), 0.1 + Z95 * np.sqrt(variance)
    assert combined_interval([1, -1], [0.7, 0.6], bounds, correlation) == pytest.approx(expected)


@pytest.mark.parametrize("value", [0.08, -0.08, 0.5])
def test_p_is_that_of_the_normal_interval(value):
    assert p_of(value, lambda z: (value - 0.04 * z, value + 0.04 * z)) == pytest.approx(
        2 * norm.sf(abs(value) / 0.04), rel=1e-4
    )
    assert p_of(0.0, lambda z: (-z, z)) == 1.0


def test_p_is_below_5_percent_exactly_where_the_interval_leaves_0_out():
    rng = np.random.default_rng(0)
    for _ in range(200):
        shares = [(int(rng.integers(0, n + 1)) / n, n) for n in rng.integers(5, 60, 2)]

        def interval(z, shares=shares):
            bounds = [share_interval(share, n, z) for share, n in shares]
            return combined_interval([1, -1], [share for share, _ in shares], bounds, ALONE)

        low, high = interval(Z95)
        p = p_of(shares[0][0] - shares[1][0], interval)
        assert 0 <= p <= 1 and (p < 0.05) == (not low <= 0 <= high)


@pytest.mark.parametrize("freedom", [1, 9, 500])
def test_students_quantile_has_the_tail_of_z(freedom):
    for z in (0.1, Z95, 4.0):
        assert student(z, freedom) == pytest.approx(t.isf(norm.sf(z), freedom), rel=1e-6)
    assert student(30.0, freedom) > 30 and np.isfinite(student(30.0, freedom))


def test_the_design_effect_of_groups_that_repeat_is_their_size():
    rng = np.random.default_rng(0)
    values, group = np.repeat(rng.normal(size=500), 4), np.repeat(np.arange(500), 4)
    assert design_effect(values - values.mean(), group) == pytest.approx(4)
    assert design_effect(rng.normal(size=2000), group) == pytest.approx(1, abs=0.15)
    assert design_effect(values, np.arange(2000)) == 1
    # nothing varies: samples of a group count as one (here 2 groups of 1 and 3: (1 + 9) / 4)
    assert design_effect(np.zeros(4), np.array([0, 1, 1, 1])) == 2.5


def test_the_interval_of_a_share_over_few_groups_is_student_s():
    right = np.repeat([True, False], 50)
    assert grouped_share_interval(right, np.arange(100)) == share_interval(0.5, 100)
    # Groups of ten that agree among themselves are ten answers, and ten groups leave nine degrees of freedom.
    ten = share_interval(0.5, 10, t.ppf(0.975, 9))
    assert grouped_share_interval(right, np.repeat(np.arange(10), 10)) == pytest.approx(ten)


def test_one_group_alone_says_next_to_nothing():
    low, high = grouped_share_interval(np.tile([True, False], 20), np.zeros(40))
    assert low < 0.01 and high > 0.99
    assert design_effect(np.tile([0.5, -0.5], 20), np.zeros(40, np.int64)) == 40


@pytest.mark.parametrize("groups", [4, 8])
def test_it_covers_where_groups_are_few(groups):
    """Of these draws plain z covers 86 and 90 %."""
    rng, inside = np.random.default_rng(0), 0
    names = np.repeat(np.arange(groups), 20)
    for _ in range(1000):
        right = rng.random(groups * 20) < np.repeat(rng.beta(2, 2, groups), 20)
        low, high = grouped_share_interval(right, names)
        inside += low <= 0.5 <= high
    assert inside / 1000 > 0.93
