"""Pooling and its gradient against plain formulas and autograd; pooling by kind of token."""

import itertools

import numpy as np
import pytest
import torch

from relope.errors import InvalidInputError
from relope.probes.methods.attention_probe import Net
from relope.probes.pool import Pool
from relope.probes.protocol import make


@pytest.fixture
def net():
    torch.manual_seed(0)
    found = Net(16)
    with torch.no_grad():
        found.query.copy_(torch.randn(16) * 3)
        found.standardize.mean.copy_(torch.randn(16))
        found.standardize.scale.copy_(torch.rand(16) + 0.5)
    return found


BOUNDS = [0, 5, 6, 15]


def by_formula(net, tokens, keep=None):
    """One sample's logit, from the formula alone."""
    x = tokens.float()
    if net.rms:
        x = x / x.square().mean(1, keepdim=True).sqrt()
    scores = x @ (net.query * net.standardize.scale) / 4.0  # √16 = 4
    if keep is not None:
        scores = torch.where(keep, scores, -torch.inf)
    pooled = (scores.softmax(0) @ x - net.standardize.mean) * net.standardize.scale
    return net.head(pooled)[0]


@pytest.mark.parametrize("norm", ["none", "rms"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("masked", [False, True])
def test_equals_the_formula_sample_by_sample(net, norm, dtype, masked):
    net.rms = norm == "rms"
    tokens = (torch.randn(15, 16) * 4).to(dtype)
    keep = torch.arange(15) % 3 != 1 if masked else None
    found = net(tokens, BOUNDS, keep)
    for place, (start, stop) in enumerate(itertools.pairwise(BOUNDS)):
        kept = None if keep is None else keep[start:stop]
        assert torch.allclose(found[place], by_formula(net, tokens[start:stop], kept), atol=1e-5)


@pytest.mark.parametrize("rms", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_the_query_gets_the_gradient_of_finite_differences(rms, masked):
    torch.manual_seed(1)
    tokens, keep = torch.randn(7, 4, dtype=torch.double), torch.tensor([1, 0, 1, 1, 1, 0, 1]).bool() if masked else None
    query = torch.randn(4, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(lambda q: Pool.apply(q, tokens, [0, 3, 7], keep, rms), query)


@pytest.mark.parametrize("rms", [False, True])
def test_the_gradient_equals_that_of_autograd(net, rms):
    net.rms = rms
    tokens = torch.randn(15, 16).bfloat16()
    net(tokens, BOUNDS).mul(1e4).square().sum().backward()
    found, net.query.grad = net.query.grad, None
    parts = [by_formula(net, tokens[start:stop]) for start, stop in itertools.pairwise(BOUNDS)]
    torch.stack(parts).mul(1e4).square().sum().backward()
    assert torch.allclose(found, net.query.grad, rtol=1e-4, atol=1e-2) and found.abs().max() > 100


def test_weights_of_a_sample_sum_to_one_even_for_huge_scores(net):
    assert torch.allclose(net.weights(torch.randn(5, 16) * 1e5).sum(), torch.ones(()))


def test_a_zero_query_is_mean_pooling():
    assert torch.allclose(Net(8).weights(torch.randn(4, 8)), torch.full((4,), 0.25))


def test_rms_ignores_the_length_of_a_token(net):
    net.rms, tokens = True, torch.randn(5, 16)
    loud = tokens * torch.tensor([1.0, 1e4, 1.0, 1.0, 3.0])[:, None]
    assert torch.allclose(net.weights(tokens), net.weights(loud), atol=1e-5)
    net.rms = False
    assert not torch.allclose(net.weights(tokens), net.weights(loud), atol=1e-2)


def test_pooling_by_kind_looks_at_those_tokens_only(training, testing):
    by_kind = {
        pool: make("attention-probe", {"pool": pool, "epochs": 1}).fit(training, seed=0)
        for pool in ("all", "image", "text")
    }
    scores = {pool: probe.predict_proba(testing) for pool, probe in by_kind.items()}
    assert not np.array_equal(scores["all"], scores["image"]) and not np.array_equal(scores["text"], scores["image"])
    kinds = testing.store.manifest.token_columns.index("kind")
    for pool, kind in (("image", 1), ("text", 0)):
        for weights, tokens in zip(
            by_kind[pool].token_weights(testing), testing.store.tokens(testing.rows), strict=True
        ):
            assert ((weights > 0) == (tokens[:, kinds] == kind)).all() and weights.sum() == pytest.approx(1, abs=1e-5)


def test_a_sample_without_such_tokens_is_refused(training, monkeypatch):
    probe = make("attention-probe", {"pool": "image", "epochs": 1})
    monkeypatch.setattr(probe, "_kinds", lambda e, rows: np.zeros(sum(map(len, e.store.tokens(rows)))))
    with pytest.raises(InvalidInputError, match="has no image tokens"):
        probe.fit(training, seed=0)


def test_the_last_token_stands_beside_the_pooled_state(training, testing, tmp_path):
    probe = make("attention-probe", {"last": True, "epochs": 2})
    assert probe.layers(4) == (3, 4)
    fitted = probe.fit(training, seed=0)
    scores = fitted.predict_proba(testing)
    net, store, row = fitted.net_, testing.store, testing.rows[7:8]
    batch, last = store.read(3, row), torch.from_numpy(store.last(4, row))
    pooled = net.standardize(net.pooled(torch.from_numpy(batch.float32()), batch.offsets.tolist()))
    learned = net.standardize_last(torch.from_numpy(store.last(4, training.rows)))
    assert learned.mean(0).abs().max() < 0.3 and learned.std(0).mean() == pytest.approx(1, abs=0.1)
    by_hand = net.head(torch.cat([pooled, net.standardize_last(last)], 1)).sigmoid().item()
    assert scores[7] == pytest.approx(by_hand, abs=1e-5)
    fitted.save(tmp_path)
    assert np.array_equal(type(fitted).load(tmp_path).predict_proba(testing), scores)


def test_a_last_token_that_is_not_finite_is_refused(training, monkeypatch):
    last = training.store.last
    monkeypatch.setattr(training.store, "last", lambda *asked: last(*asked) * np.nan)
    with pytest.raises(InvalidInputError, match=r"states of layer 4 of 1\d\d of 1\d\d samples hold NaN or infinity"):
        make("attention-probe", {"last": True, "epochs": 1}).fit(training, seed=0)
    make("attention-probe", {"epochs": 1}).fit(training, seed=0)
