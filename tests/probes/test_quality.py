"""Is what is learned what there is to learn? Made stores with a known answer, seeds fixed beforehand."""

import os

import numpy as np
import pytest
from made_signals import both_splits, make_signal_store
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from relope import registry
from relope.evaluate.numbers.bootstrap import bootstrap_auc
from relope.extract.recipe import save_block
from relope.probes.protocol import make

METHODS = registry.names("methods")
TOKENS, HIDDEN = 150, 16


@pytest.fixture(autouse=True, scope="module")
def _no_fsync():
    """These stores are thrown away."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(scope="module")
def in_the_last_token(tmp_path_factory):
    """Three tokens; the last one is shifted along a fixed direction by who is right."""
    direction = np.random.default_rng(7).standard_normal(HIDDEN).astype(np.float32)

    def states(rng, label):
        values = rng.standard_normal((3, HIDDEN), dtype=np.float32)
        values[-1] += (2 * label - 1) * direction / np.linalg.norm(direction)
        return values

    return make_signal_store(tmp_path_factory.mktemp("last") / "x.zarr", (4000, 3000), states, seed=1)


def hidden_states(rng, label):
    """One token of 150, never the last, is marked in one direction and says who is right in another."""
    values = rng.standard_normal((TOKENS, HIDDEN), dtype=np.float32)
    values[rng.integers(TOKENS - 1), :2] += (5, 2.5 * (2 * label - 1))
    return values


@pytest.fixture(scope="module")
def in_one_token(tmp_path_factory):
    return make_signal_store(tmp_path_factory.mktemp("one") / "x.zarr", (4000, 2000), hidden_states, seed=2)


@pytest.fixture(scope="module")
def nowhere(tmp_path_factory, backbone, store_path):
    """Noise of tiny-vl's width, with the weights of its block, so that ReLope can be fitted."""
    from relope.store import ActivationStore

    columns = ActivationStore.open(store_path).manifest.token_columns
    path = tmp_path_factory.mktemp("nowhere") / "x.zarr"

    def states(rng, label):
        return rng.standard_normal((5, backbone.hidden_size), dtype=np.float32)

    make_signal_store(path, (600, 1500), states, seed=3, layers=(3, 4), columns=columns)
    save_block(backbone, path, (3, 4))
    return path


def test_probe_equals_logistic_regression_where_the_last_token_says_it_all(in_the_last_token):
    train, test = both_splits(in_the_last_token)
    model = LogisticRegression().fit(train.store.last(2, train.rows), train.labels)
    best = roc_auc_score(test.labels, model.decision_function(test.store.last(2, test.rows)))
    assert 0.90 < best < 0.94
    for head in ("mlp", "logistic"):
        scores = make("probe", {"head": head}).fit(train, seed=0).predict_proba(test)
        assert abs(roc_auc_score(test.labels, scores) - best) <= 0.01


def test_attention_finds_the_one_token_that_the_last_token_probe_cannot_see(in_one_token):
    train, test = both_splits(in_one_token)
    oracle = np.zeros(len(test))  # looks for the mark, then reads
    for place, batch in enumerate(test.store.batches(1, test.rows, size=1)):
        oracle[place] = batch.values[batch.values[:, 0].argmax(), 1]
    assert roc_auc_score(test.labels, oracle) >= 0.99
    attention = make("attention-probe", {"epochs": 10}).fit(train, seed=0).predict_proba(test)
    assert roc_auc_score(test.labels, attention) >= 0.90
    last = make("probe", {}).fit(train, seed=0).predict_proba(test)
    assert roc_auc_score(test.labels, last) <= 0.60


def test_noise_is_found_to_be_noise_by_every_method(nowhere):
    """Every AUC's interval, widened for the number of methods (Bonferroni), holds 0.5; a leak is not missed."""
    train, test = both_splits(nowhere)
    scores = {name: make(name, {}).fit(train, seed=0).predict_proba(test) for name in METHODS}
    rng = np.random.default_rng(4)
    scores["a leak"] = (test.labels + 4 * rng.standard_normal(len(test))).astype(np.float32)
    aucs = bootstrap_auc(test.labels > 0, np.stack([*scores.values()]), test.groups, 4000, seed=5)
    drawn = np.stack([auc.resampled for auc in aucs])
    tail = 0.05 / len(METHODS) / 2
    bounds = dict(zip(scores, np.quantile(drawn, (tail, 1 - tail), axis=1).T.tolist(), strict=True))
    held = {name for name, (low, high) in bounds.items() if low <= 0.5 <= high}
    assert held == set(METHODS), bounds
