"""Heuristics by hand: log-probs −0.1, −0.3 and entropies 0.2, 0.6; the empty answer scores 0."""

import math
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

from relope.probes.confidence import answer_odds, confidence_features
from relope.probes.examples import Examples
from relope.probes.protocol import make
from relope.store.format.identity import Identity

TABLE = pl.DataFrame(
    {
        "logprobs": [[-0.1, -0.3], [-2.0], []],
        "entropies": [[0.2, 0.6], [1.5], []],
    }
)


class FakeStore:
    samples = TABLE
    manifest = SimpleNamespace(identity=Identity({}))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("logprob", [math.exp(-0.4), math.exp(-2.0), 0.0]),
        ("perplexity", [math.exp(-0.2), math.exp(-2.0), 0.0]),
        ("entropy", [math.exp(-0.4), math.exp(-1.5), 0.0]),
    ],
)
def test_scores(name, expected):
    examples = Examples(FakeStore(), np.arange(3), None, 4)
    assert np.allclose(make(name, {}).predict_proba(examples), expected, atol=1e-7)


def test_the_features_of_an_answer_and_of_an_empty_one():
    examples = Examples(FakeStore(), np.arange(3), None, 4)
    whole = math.exp(-0.4)
    odds = math.log(whole / (1 - whole))
    expected = [-0.4, -0.2, -0.3, -0.3, odds, 0.4, 0.6, math.log(3), 0]
    found = confidence_features(examples, "cascade")
    assert np.allclose(found[0], expected) and found[2].tolist() == [0, 0, 0, 0, -8, 0, 0, 0, 1]
    assert np.allclose(answer_odds(examples, "cascade")[:, 0], found[:, 4])
