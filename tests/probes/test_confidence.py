"""Heuristics by hand: log-probs −0.1, −0.3 and entropies 0.2, 0.6; the empty answer scores 0."""

import math

import numpy as np
import polars as pl
import pytest

from relope.probes import Examples, make

TABLE = pl.DataFrame({
    "logprobs": [[-0.1, -0.3], [-2.0], []],
    "entropies": [[0.2, 0.6], [1.5], []],
})  # fmt: skip


class FakeStore:
    samples = TABLE


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
