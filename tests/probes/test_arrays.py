"""Methods on plain arrays: the same fits as from a store, and scikit-learn's habits."""

import dataclasses

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from relope.errors import InvalidInputError, NotFoundError
from relope.probes.arrays import examples
from relope.probes.estimator import RouterClassifier
from relope.probes.protocol import make

NOT_APPLICABLE = {
    "check_no_attributes_set_in_init": "the settings of any method are taken, and kept in one mapping",
}
"""Check of scikit-learn → why it does not hold."""

ON_A_MATRIX = [
    RouterClassifier("probe", epochs=20),
    RouterClassifier("attention-probe", epochs=20),
    RouterClassifier("relope", lora=False, epochs=20),
]


@parametrize_with_checks(ON_A_MATRIX, expected_failed_checks=lambda estimator: NOT_APPLICABLE)
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def data():
    """Two classes that one direction of 16 tells apart, of 400 samples of 100 groups."""
    rng = np.random.default_rng(0)
    X, groups = rng.standard_normal((400, 16)).astype(np.float32), rng.integers(0, 100, 400)
    y = X[:, 3] + rng.standard_normal(400) > 0
    return X, y, groups


def ragged(store, rows, layer):
    """The tokens of a store's rows as one array, with where each sample begins."""
    batch = store.read(layer, rows)
    return batch.values, batch.offsets


@pytest.mark.parametrize(("name", "settings"), [("probe", {}), ("relope", {"lora": False})])
def test_a_matrix_gives_the_fit_that_a_store_gives(name, settings, training, testing):
    X, X_test = (each.store.last(4, each.rows) for each in (training, testing))
    from_store = make(name, {"epochs": 2, **settings}).fit(training, seed=1).predict_proba(testing)
    given = examples(X, training.correct, groups=training.groups)
    from_arrays = make(name, {"epochs": 2, **settings}).fit(given, seed=1).predict_proba(examples(X_test))
    assert np.array_equal(from_arrays, from_store)


@pytest.mark.parametrize("pool", ["all", "image"])
def test_ragged_tokens_give_the_fit_that_a_store_gives(pool, training, testing):
    settings, kind = {"epochs": 2, "pool": pool}, training.store.manifest.token_columns.index("kind")
    from_store = make("attention-probe", settings).fit(training, seed=1)
    arrays = []
    for each in (training, testing):
        tokens, offsets = ragged(each.store, each.rows, 3)
        kinds = each.store.token_batch(each.rows)[0][:, kind]
        arrays.append(examples(tokens, each.correct, offsets=offsets, groups=each.groups, kinds=kinds))
    from_arrays = make("attention-probe", settings).fit(arrays[0], seed=1)
    assert np.array_equal(from_arrays.predict_proba(arrays[1]), from_store.predict_proba(testing))
    weights = zip(from_arrays.token_weights(arrays[1]), from_store.token_weights(testing), strict=True)
    assert all(np.array_equal(one, other) for one, other in weights)


def test_the_classifier_is_the_method(data):
    X, y, groups = data
    fitted = RouterClassifier("probe", head="logistic", seed=3).fit(X, y, groups=groups)
    alone = make("probe", {"head": "logistic"}).fit(examples(X, y, groups=groups), seed=3)
    scores = fitted.predict_proba(X)
    assert np.array_equal(scores[:, 1], alone.predict_proba(examples(X))) and scores.shape == (400, 2)
    # As good as scikit-learn's own on the same features, out of sample.
    ours, theirs = (
        cross_val_score(estimator, X, y, groups=groups, cv=GroupKFold(4), scoring="roc_auc").mean()
        for estimator in (RouterClassifier("probe", head="logistic", lr=0.02), LogisticRegression())
    )
    assert ours == pytest.approx(theirs, abs=0.02) and theirs > 0.7


def test_labels_of_any_two_kinds(data):
    X, y, _ = data
    words = np.where(y, "right", "off")
    fitted = RouterClassifier("probe", head="logistic", lr=0.02).fit(X, words)
    assert fitted.classes_.tolist() == ["off", "right"] and set(fitted.predict(X)) == {"off", "right"}
    assert roc_auc_score(y, fitted.predict_proba(X)[:, 1]) > 0.7


def test_settings_are_parameters(data):
    X, y, _ = data
    router = RouterClassifier("probe", head="logistic", epochs=3)
    assert clone(router).get_params() == router.get_params()
    assert router.get_params() == {"method": "probe", "seed": 0, "device": "cpu", "head": "logistic", "epochs": 3}
    search = GridSearchCV(make_pipeline(StandardScaler(), router), {"routerclassifier__lr": [1e-9, 1e-2]}, cv=3)
    assert search.fit(X, y).best_params_ == {"routerclassifier__lr": 1e-2}
    assert router.set_params(method="attention-probe", batch=8).get_params()["batch"] == 8
    assert "lr" not in router.get_params(), "a search changes its copies alone"
    with pytest.raises(InvalidInputError, match="settings and defaults"):
        RouterClassifier("probe", learning_rat=1).fit(X, y)


def test_ragged_tokens_are_classified():
    """The label is in one token of some; a state a sample would not show it."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(3, 9, 600)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    tokens = rng.standard_normal((offsets[-1], 8)).astype(np.float32) * 0.3
    y = rng.random(600) < 0.5
    tokens[offsets[:-1] + rng.integers(0, lengths - 1)] += np.where(y, 2, -2)[:, None]
    router = RouterClassifier("attention-probe", epochs=15).fit(tokens[: offsets[400]], y[:400], offsets=offsets[:401])
    scores = router.predict_proba(tokens[offsets[400] :], offsets=offsets[400:] - offsets[400])
    assert len(scores) == 200 and roc_auc_score(y[400:], scores[:, 1]) > 0.95


@pytest.mark.parametrize("method", ["question-kind", "logprob", "relope", "posthoc", "cascade"])
def test_methods_that_read_more_than_states_are_refused(method, data):
    X, y, _ = data
    with pytest.raises(InvalidInputError, match=f"{method} reads more than hidden states"):
        RouterClassifier(method).fit(X, y)


def test_what_arrays_lack_is_said(data):
    X, y, _ = data
    with pytest.raises(NotFoundError, match="posthoc needs the model's answers, which arrays in memory does not have"):
        make("posthoc", {}).fit(examples(X, y), seed=0)
    with pytest.raises(NotFoundError, match="arrays in memory keeps no weights of block 1"):
        make("relope", {}).fit(examples(X, y), seed=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"X": np.zeros(3)}, r"X has shape \(3,\)"),
        ({"y": [True]}, r"y has shape \(1,\), must be \(4,\)"),
        ({"groups": list("abc")}, r"groups has shape \(3,\)"),
        ({"kinds": [1]}, r"kinds has shape \(1,\)"),
        ({"offsets": [0, 2, 2, 4]}, "offsets must rise from 0 to 4"),
        ({"offsets": [0, 3]}, "offsets must rise from 0 to 4"),
        ({"offsets": []}, "offsets must rise from 0 to 4"),
    ],
)
def test_shapes_that_do_not_go_together_are_refused(changes, message):
    given = {"X": np.zeros((4, 2)), "y": [0, 1, 0, 1], **changes}
    if "offsets" in changes:
        del given["y"]
    with pytest.raises(InvalidInputError, match=message):
        examples(given.pop("X"), given.pop("y", None), **given)


def test_arrays_are_read_like_a_store(data):
    X, y, groups = data
    given = examples(X, y, groups=groups, layer=7)
    store = given.store
    assert store.layers == (6, 7) and len(store) == 400 and given.groups.tolist() == groups.astype(str).tolist()
    few = given.take(np.array([5, 1]))
    assert np.array_equal(store.last(7, few.rows), X[[5, 1]])
    (batch,) = store.batches(6, few.rows, size=4)
    assert np.array_equal(batch.values, X[[5, 1]]) and batch.offsets.tolist() == [0, 1, 2]
    assert dataclasses.replace(given, correct=None).correct is None and "400 samples" in repr(store)
