"""Every quoted statistic against scikit-learn or a loop over the samples, weighted ones by repeating samples."""

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, roc_auc_score, roc_curve

from relope.evaluate.numbers.statistics import Labels, SortedScores, names, statistics

N = 300


def made(seed, digits, large=True):
    rng = np.random.default_rng(seed)
    correct = rng.random(N) < 0.55
    score = np.round(np.clip(0.5 + 0.2 * (correct - 0.5) + rng.normal(0, 0.2, N), 0, 1), digits)
    return Labels(correct, (rng.random(N) < 0.8) if large else None, seed), score


def ones(labels, score):
    method = SortedScores.of(score, score, labels)
    return method, {name: float(value[0]) for name, value in statistics(labels, method, np.ones((N, 1))).items()}


def queue_of(labels, score):
    """Lowest score first, ties in the order of the seeded permutation that the report documents."""
    ties = np.random.default_rng(labels.seed).permutation(len(score))
    return sorted(range(len(score)), key=lambda index: (score[index], ties[index]))


def by_hand(small, large, queue):
    """Recompute the statistics of a queue with loops: accuracies, APGR, CPT, QNC and AURC."""
    n, accuracy = len(queue), []
    for k in range(n + 1):
        system = np.concatenate([large[queue[:k]], small[queue[k:]]])
        accuracy.append(system.mean())
    accuracy, calls = np.array(accuracy), np.arange(n + 1) / n
    a_small, a_large = accuracy[0], accuracy[-1]
    pgr = (accuracy - a_small) / (a_large - a_small)

    def least_calls(wanted):
        for k in range(1, n + 1):
            if pgr[k] >= wanted - 1e-12:
                return calls[k - 1] + (wanted - pgr[k - 1]) / (pgr[k] - pgr[k - 1]) / n
        raise AssertionError

    errors = [1 - small[queue[::-1][:k]].mean() for k in range(1, n + 1)]
    values = {"apgr": np.trapezoid(pgr, calls), "cpt_50": least_calls(0.5), "cpt_80": least_calls(0.8)}
    values |= {"qnc": least_calls(1.0), "aurc": np.mean(errors), "auarc": 1 - np.mean(errors)}
    for share in (0.1, 0.2, 0.5):
        k = int(np.ceil(round(share * n, 9)))
        values[f"accuracy_at_{share:g}"] = accuracy[k]
        values[f"pgr_at_{share:g}"] = pgr[k]
        values[f"gain_over_random_at_{share:g}"] = accuracy[k] - a_small - (a_large - a_small) * k / n
    return values


def calibration_error(correct, score, bins=15):
    """Mean distance of score and accuracy over bins of equal mass; equal scores share the bin of their middle rank."""
    middle = (np.searchsorted(np.sort(score), score, "left") + np.searchsorted(np.sort(score), score, "right")) / 2
    number = np.floor(middle * bins / len(score)).astype(int)
    inside = [number == index for index in range(bins) if (number == index).any()]
    return sum(part.sum() * abs(score[part].mean() - correct[part].mean()) for part in inside) / len(score)


def best_tpr(correct, score, rate, weight=None):
    false, true, _ = roc_curve(correct, score, sample_weight=weight, drop_intermediate=False)
    return max(t for f, t in zip(false, true, strict=True) if f <= rate + 1e-12)


@pytest.mark.parametrize("digits", [1, 8])
def test_values_equal_independent_ones(digits):
    labels, score = made(3, digits)
    _, values = ones(labels, score)
    expected = by_hand(labels.correct, labels.large, queue_of(labels, score))
    expected |= {"auc": roc_auc_score(labels.correct, score), "brier": brier_score_loss(labels.correct, score)}
    expected |= {"ece": calibration_error(labels.correct, score)}
    expected |= {f"tpr_at_fpr_{p}": best_tpr(labels.correct, score, p / 100) for p in (1, 5)}
    assert set(values) == set(names())
    for name, value in expected.items():
        assert values[name] == pytest.approx(value, abs=1e-12), name


@pytest.mark.parametrize("digits", [1, 8])
def test_a_weight_is_so_many_copies_of_a_sample(digits):
    labels, score = made(4, digits)
    weights = np.random.default_rng(0).integers(0, 4, (N, 5)).astype(float)
    method = SortedScores.of(score, score, labels)
    values = statistics(labels, method, weights)
    for column, weight in enumerate(weights.T):
        times = weight.astype(int)
        queue = [index for index in queue_of(labels, score) for _ in range(times[index])]
        expected = by_hand(labels.correct, labels.large, np.array(queue))
        expected["auc"] = roc_auc_score(labels.correct, score, sample_weight=weight)
        expected |= {f"tpr_at_fpr_{p}": best_tpr(labels.correct, score, p / 100, weight) for p in (1, 5)}
        repeated = np.repeat(np.arange(N), times)
        expected["brier"] = brier_score_loss(labels.correct[repeated], score[repeated])
        for name, value in expected.items():
            assert values[name][column] == pytest.approx(value, abs=1e-9), name


def test_cpt_on_a_rising_curve_is_routellms_interpolation():
    """RouteLLM reads CPT off by `np.interp` of calls over accuracy, which is right where the curve rises."""
    small = np.zeros(10, bool)
    large = np.ones(10, bool)
    labels = Labels(small, large, 0)
    score = np.linspace(0, 1, 10)
    values = statistics(labels, SortedScores.of(score, score, labels), np.ones((10, 1)))
    calls, accuracy = np.arange(11) / 10, np.arange(11) / 10
    for share in (0.5, 0.8):
        assert values[f"cpt_{round(100 * share)}"][0] == pytest.approx(np.interp(share, accuracy, calls))
    assert values["apgr"][0] == pytest.approx(0.5) and values["qnc"][0] == pytest.approx(1.0)


def test_a_worked_case():
    # queue: wrong→right, wrong→right, right, right: two of four calls reach the large model's accuracy.
    labels = Labels(np.array([False, False, True, True]), np.array([True, True, True, True]), 0)
    score = np.array([0.1, 0.2, 0.8, 0.9])
    values = statistics(labels, SortedScores.of(score, score, labels), np.ones((4, 1)))
    assert values["qnc"][0] == 0.5 and values["cpt_50"][0] == 0.25 and values["auc"][0] == 1.0
    assert values["apgr"][0] == pytest.approx((0.25 + 0.75 + 1 + 1) / 4)  # trapezoids over 0, ½, 1, 1, 1
    assert values["aurc"][0] == pytest.approx((0 + 0 + 1 / 3 + 2 / 4) / 4)


def test_undefined_is_not_a_number():
    labels, score = made(5, 8, large=False)
    _, values = ones(labels, score)
    assert all(np.isnan(values[name]) for name in ("apgr", "cpt_50", "cpt_80", "qnc", "pgr_at_0.2"))
    kept = np.array(queue_of(labels, score))[N // 5 :]
    assert values["accuracy_at_0.2"] == pytest.approx(labels.correct[kept].mean())
    worse = Labels(labels.correct, np.zeros(N, bool), 0)
    assert np.isnan(ones(worse, score)[1]["apgr"])
    one_class = Labels(np.ones(N, bool), None, 0)
    assert np.isnan(ones(one_class, score)[1]["auc"]) and np.isnan(ones(one_class, score)[1]["tpr_at_fpr_5"])
