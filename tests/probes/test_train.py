"""The inner split keeps groups whole; the ranking measure equals scikit-learn's."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from relope.probes.heads import MLP_WIDTHS, Standardize, mlp
from relope.probes.train import inner_split, minibatches, rank_auc


@pytest.mark.parametrize("seed", range(5))
def test_groups_are_never_cut(seed):
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, 60, 400).astype(str)
    inner, held = inner_split(groups, rng.random(400) < 0.7, 0.15, seed)
    assert not set(groups[inner]) & set(groups[held])
    assert sorted([*inner, *held]) == list(range(400))
    assert 0.1 < len(held) / 400 < 0.25


def test_the_validation_side_has_both_classes_where_it_can():
    groups = np.arange(100).astype(str)
    correct = np.zeros(100, dtype=bool)
    correct[:3] = True
    _, held = inner_split(groups, correct, 0.05, 0)
    assert len(np.unique(correct[held])) == 2


def test_the_inner_split_leaves_both_classes_to_learn_from():
    groups = np.array([f"g{n // 4}" for n in range(80)])
    correct = np.ones(80, bool)
    correct[[0, 1, 40]] = False  # two of the three rare ones are of one image
    for seed in range(20):
        inner, held = inner_split(groups, correct, 0.15, seed)
        assert len(np.unique(correct[inner])) == 2 and len(inner) + len(held) == 80, seed


def test_rank_auc_equals_scikit_learn_with_ties():
    rng = np.random.default_rng(0)
    correct, scores = rng.random(200) < 0.4, rng.integers(0, 7, 200).astype(np.float32)
    assert rank_auc(correct, scores) == pytest.approx(roc_auc_score(correct, scores), abs=1e-12)


def test_minibatches_are_a_permutation():
    batches = list(minibatches(10, 4, np.random.default_rng(0)))
    assert [len(batch) for batch in batches] == [4, 4, 2]
    assert sorted(np.concatenate(batches)) == list(range(10))


def test_standardize_centres_and_keeps_constants():
    rng = np.random.default_rng(0)
    features = rng.normal(3, 5, (100, 3)).astype(np.float32)
    features[:, 2] = 7
    layer = Standardize(3)
    layer.learn(features)
    import torch

    out = layer(torch.from_numpy(features)).numpy()
    assert np.allclose(out.mean(0), 0, atol=1e-5) and np.allclose(out.std(0), [1, 1, 0], atol=1e-4)


def test_the_papers_mlp_has_five_layers():
    assert [layer.out_features for layer in mlp(99) if hasattr(layer, "out_features")] == [*MLP_WIDTHS, 1]
    assert len(mlp(99, ())) == 1
