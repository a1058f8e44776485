"""Segment softmax and pooling against padded formulas; pooling by kind of token."""

import numpy as np
import pytest
import torch

from relope.errors import InvalidInputError
from relope.probes import make
from relope.probes.attention_probe import Net


@pytest.fixture
def net():
    torch.manual_seed(0)
    found = Net(16)
    with torch.no_grad():
        found.query.copy_(torch.randn(16) * 3)
        found.standardize.mean.copy_(torch.randn(16))
        found.standardize.scale.copy_(torch.rand(16) + 0.5)
    return found


def test_equals_a_padded_softmax_and_sum(net):
    lengths = [5, 1, 9]
    parts = [torch.randn(n, 16) * 4 for n in lengths]
    segment = torch.repeat_interleave(torch.arange(3), torch.tensor(lengths))
    found = net(torch.cat(parts), segment, 3)
    scaled = net.query * net.standardize.scale
    for place, tokens in enumerate(parts):
        weights = ((tokens - net.standardize.mean) @ scaled / 4.0).softmax(0)  # √16 = 4; the mean cancels
        pooled = ((weights @ tokens) - net.standardize.mean) * net.standardize.scale
        assert torch.allclose(found[place], net.head(pooled)[0], atol=1e-5)


def test_weights_of_a_sample_sum_to_one_even_for_huge_scores(net):
    segment = torch.tensor([0, 0, 0, 1, 1])
    weights = net.weights(torch.randn(5, 16) * 1e4, segment, 2)
    assert torch.allclose(torch.zeros(2).index_add(0, segment, weights), torch.ones(2))


def test_a_zero_query_is_mean_pooling():
    weights = Net(8).weights(torch.randn(4, 8), torch.tensor([0, 0, 0, 0]), 1)
    assert torch.allclose(weights, torch.full((4,), 0.25))


def test_the_query_gets_the_gradient_of_finite_differences():
    torch.manual_seed(1)
    net = Net(4).double()
    tokens, segment = torch.randn(7, 4, dtype=torch.double), torch.tensor([0, 0, 0, 1, 1, 1, 1])

    def loss(query):
        net.query.data = query
        return torch.func.functional_call(net, {"query": query}, (tokens, segment, 2)).sum()

    assert torch.autograd.gradcheck(loss, torch.randn(4, dtype=torch.double, requires_grad=True))


def test_pooling_by_kind_looks_at_those_tokens_only(training, testing):
    by_kind = {
        pool: make("attention-probe", {"pool": pool, "epochs": 1}).fit(training, seed=0)
        for pool in ("all", "image", "text")
    }
    scores = {pool: probe.predict_proba(testing) for pool, probe in by_kind.items()}
    assert not np.array_equal(scores["all"], scores["image"]) and not np.array_equal(scores["text"], scores["image"])
    batch = next(by_kind["image"]._batches(testing))
    tokens, segment = by_kind["image"]._tokens(testing, batch)
    assert (torch.bincount(segment) == 16).all() and len(tokens) == 16 * len(batch.rows)


def test_a_sample_without_such_tokens_is_refused(training, monkeypatch):
    probe = make("attention-probe", {"pool": "image", "epochs": 1})
    monkeypatch.setattr(probe, "_kinds", lambda examples, rows: np.zeros(sum(map(len, examples.store.tokens(rows)))))
    with pytest.raises(InvalidInputError, match="has no image tokens"):
        probe.fit(training, seed=0)
