"""The weighted mean against a Bradley–Terry fit by likelihood, and what y means."""

import dataclasses

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from relope.probes.methods.routellm_sw import win_rates
from relope.probes.protocol import make


@pytest.mark.parametrize("seed", range(3))
def test_the_weighted_mean_is_the_bradley_terry_fit(seed):
    rng = np.random.default_rng(seed)
    similarities, wins = rng.uniform(-0.3, 0.9, 40), rng.choice([0, 0.5, 1], 40)
    weights = 10 * 10 ** (similarities / similarities.max())

    def loss(strength):
        """Negative log-likelihood of strong − small = strength; a tie counts half for either."""
        return np.sum(weights * (wins * np.logaddexp(0, -strength) + (1 - wins) * np.logaddexp(0, strength)))

    strength = minimize_scalar(loss, bounds=(-20, 20), method="bounded", options={"xatol": 1e-10}).x
    assert win_rates(similarities[None], wins)[0] == pytest.approx(1 / (1 + np.exp(-strength)), abs=1e-6)


def test_by_hand():
    rates = win_rates(np.array([[1.0, 0.5, 0.0]]), np.array([1.0, 0.5, 0.0]))
    assert rates[0] == pytest.approx((100 + 0.5 * 10 * 10**0.5) / (100 + 10 * 10**0.5 + 10))


@pytest.mark.parametrize("similarities", [[0.0, 0.0, 0.0], [-0.5, -0.1, -0.2]])
def test_a_question_unlike_all_others_gets_the_plain_mean(similarities):
    assert win_rates(np.array([similarities]), np.array([1.0, 0.0, 0.5]))[0] == pytest.approx(0.5)


def test_without_a_large_model_y_is_one_minus_correct_and_it_is_said(training):
    probe = make("routellm-sw", {}).fit(training, seed=0)
    assert np.array_equal(probe.wins_, 1 - training.labels)
    assert "without a large model" in probe.note


def test_with_a_large_model_y_says_who_wins(training, tmp_path):
    large = np.tile([True, False], 80)
    probe = make("routellm-sw", {}).fit(dataclasses.replace(training, large_correct=large), seed=0)
    expected = [
        1.0 if b and not s else 0.0 if s and not b else 0.5 for s, b in zip(training.correct, large, strict=True)
    ]
    assert probe.wins_.tolist() == expected and set(expected) == {0, 0.5, 1}
    probe.save(tmp_path)
    assert probe.note == type(probe).load(tmp_path).note == ""


def test_embeddings_are_of_length_one_and_no_longer_than_asked(training):
    probe = make("routellm-sw", {"dimensions": 7}).fit(training, seed=0)
    assert probe.known_.shape == (160, 7)
    assert np.allclose(np.linalg.norm(probe.known_, axis=1), 1)
