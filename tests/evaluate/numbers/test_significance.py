"""DeLong's test against its definition, Holm's correction against a case worked by hand."""

import numpy as np
import pytest
from scipy.stats import norm

from relope.evaluate.numbers.estimates import Difference, difference
from relope.evaluate.numbers.significance import compared, delong, holm, judged, verdict


def definition(correct, first, second):
    """DeLong's p-value from the full matrix of pairs and its covariance."""
    structure = []
    for score in (first, second):
        right, wrong = score[correct][:, None], score[~correct][None, :]
        pairs = (right > wrong) + 0.5 * (right == wrong)
        structure.append((pairs.mean(axis=1), pairs.mean(axis=0)))
    s10 = np.cov(np.stack([structure[0][0], structure[1][0]]))
    s01 = np.cov(np.stack([structure[0][1], structure[1][1]]))
    covariance = s10 / correct.sum() + s01 / (~correct).sum()
    contrast = np.array([1, -1])
    gap = structure[0][0].mean() - structure[1][0].mean()
    return 2 * norm.sf(abs(gap) / np.sqrt(contrast @ covariance @ contrast))


@pytest.mark.parametrize("digits", [1, 6])
def test_delong_equals_its_definition(digits):
    rng = np.random.default_rng(digits)
    correct = rng.random(200) < 0.6
    first = np.round(correct * 0.4 + rng.normal(0, 0.5, 200), digits)
    second = np.round(correct * 0.2 + rng.normal(0, 0.5, 200), digits)
    assert delong(correct, first, second) == pytest.approx(definition(correct, first, second), abs=1e-12)


def test_delong_at_its_limits():
    correct = np.array([True, True, False, False])
    score = np.array([0.9, 0.2, 0.5, 0.1])
    assert delong(correct, score, score) == 1.0
    assert delong(np.array([True, False, False, False]), score, -score) is None


def test_holm():
    # sorted: .01·4, .02·3, .03·2, .04·1 → .04, .06, .06 (never below the one before), .06
    assert holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0] and holm([]) == []


@pytest.mark.parametrize(
    ("value", "p", "expected"),
    [
        (0.1, 0.049, "higher"),
        (-0.1, 0.049, "lower"),
        (0.1, 0.05, "no difference shown"),
        (0.0, 1.0, "no difference shown"),
    ],
)
def test_a_verdict_follows_the_corrected_p_value_alone(value, p, expected):
    assert verdict(Difference(value, (value, value), 0.001), p) == expected


@pytest.mark.parametrize(("n_minority", "expected"), [(9, "too few to tell"), (10, "higher"), (None, "higher")])
def test_below_ten_groups_of_the_rarer_class_there_is_no_verdict(n_minority, expected):
    gap = Difference(0.3, (0.2, 0.4), 0.001, n_minority=n_minority)
    assert verdict(gap, 0.001) == judged(gap).verdict == compared({"a": gap})["a"].verdict == expected
    assert judged(gap).n_minority == compared({"a": gap})["a"].n_minority == n_minority


def test_comparisons_are_corrected_together_and_undefined_ones_left_out():
    gaps = {"a": Difference(0.2, (0.1, 0.3), 0.01), "b": None, "c": Difference(-0.2, (-0.3, -0.1), 0.03)}
    assert {name: (gap.p_holm, gap.verdict) for name, gap in compared(gaps).items()} == {
        "a": (0.02, "higher"),
        "c": (0.03, "lower"),
    }
    assert compared({**gaps, "d": gaps["c"]})["c"].verdict == "no difference shown"  # 2 · 0.03


def test_an_interval_never_holds_0_where_the_p_value_is_below_alpha():
    """So that the verdict needs to look at p alone."""
    rng = np.random.default_rng(0)
    for trial in range(300):
        drawn = rng.normal(rng.uniform(1.5, 2.5), 1, rng.integers(41, 400))
        gap = difference(1.0, 0.0, drawn, np.zeros_like(drawn))
        assert gap.p >= 0.05 or gap.ci95[0] > 0, trial
