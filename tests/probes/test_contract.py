"""What every registered method must do; a new file in relope/probes/methods/ is tested by being there."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from made_traces import no_pickle
from sklearn.metrics import roc_auc_score

from relope import registry
from relope.errors import InvalidInputError, NotFoundError
from relope.probes.examples import Examples
from relope.probes.protocol import (
    KeepsHistory,
    Traits,
    block_use,
    make,
    method_class,
    note_of,
    pick_layer,
    reads_of_answer,
)
from relope.spec import ExtractSpec, build

METHODS = registry.names("methods")
TRAINED = [name for name in METHODS if method_class(name).traits.trains]
CONTROLS = [name for name in METHODS if method_class(name).traits.control]
NETWORKS = [name for name in TRAINED if "epochs" in method_class(name).Params.model_fields]
READS_STATES = [name for name in TRAINED if make(name, {}).layers(4) or "posthoc" in name]
NEEDY = [name for name in METHODS if method_class(name).traits.needs]
READS_CONFIDENCE_ALONE = {"cascade-logprob"}
BEFORE_THE_ANSWER = [name for name in METHODS if not method_class(name).traits.reads_answer]


def settings(name, epochs=2):
    """Keep network training short."""
    return {"epochs": epochs} if name in NETWORKS else {}


@pytest.fixture(params=METHODS)
def fitted(request, training, fits):
    """Every method, fitted for a moment; the tests share one fit."""
    if request.param not in fits:
        fits[request.param] = make(request.param, settings(request.param)).fit(training, seed=3)
    return fits[request.param]


@pytest.fixture
def methods_page():
    """The page that lists every method."""
    return (Path(__file__).parents[2] / "docs" / "methods.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def fits():
    """Method → its fit."""
    return {}


@pytest.mark.parametrize("name", METHODS)
def test_what_others_must_know_is_said_once_and_typed(name):
    module, method = registry.load("methods", name), method_class(name)
    assert type(module.VERSION) is int and registry.version("methods", name) == str(module.VERSION)
    assert type(method.traits) is Traits and method.name == name and "traits" not in vars(make(name, {}))
    assert block_use(make(name, {})) in ("none", "replayed")
    # What is needed are settings of an extraction, and the flags are what its command line takes.
    build("extract", {"model": "tiny-vl", "dataset": "tiny", **method.traits.needs})
    assert method.traits.needs.keys() <= ExtractSpec.model_fields.keys()


class OfAnAnswer:
    """A store that holds of its answers what a method says that it reads."""

    def __init__(self, store, reads):
        self._store, self._reads = store, reads
        self.samples = store.samples if "entropies" in reads else store.samples.drop("entropies")

    def __getattr__(self, name):
        return getattr(self._store, name)

    def answer(self, rows):
        assert "states" in self._reads
        return self._store.answer(rows)


def test_of_an_answer_no_more_is_read_than_is_said(fitted, testing):
    less = dataclasses.replace(testing, store=OfAnAnswer(testing.store, reads_of_answer(fitted)))
    assert np.array_equal(fitted.predict_proba(less), fitted.predict_proba(testing))
    assert not fitted.traits.reads_answer or fitted.traits.of_answer <= {"states", "entropies"}


def test_those_who_stop_early_say_when(fitted):
    assert isinstance(fitted, KeepsHistory) == hasattr(fitted.params, "patience")


def test_scores_are_probabilities_in_order(fitted, testing):
    scores = fitted.predict_proba(testing)
    assert scores.shape == (len(testing),) and scores.dtype == np.float32
    assert ((scores >= 0) & (scores <= 1)).all()
    backwards = fitted.predict_proba(testing.take(np.arange(len(testing))[::-1].copy()))
    assert np.allclose(backwards[::-1], scores, atol=2e-5)


def test_scores_do_not_depend_on_the_company(fitted, testing):
    whole = fitted.predict_proba(testing)
    some = fitted.predict_proba(testing.take(np.array([5, 17, 60])))
    assert np.allclose(some, whole[[5, 17, 60]], atol=2e-5)


def test_nobody_to_score(fitted, testing):
    assert fitted.predict_proba(testing.take(np.array([], dtype=np.int64))).shape == (0,)


def test_saved_and_loaded_scores_are_equal_to_the_bit(fitted, testing, tmp_path):
    fitted.save(tmp_path)
    loaded = type(fitted).load(tmp_path)
    assert np.array_equal(loaded.predict_proba(testing), fitted.predict_proba(testing))
    assert note_of(loaded) == note_of(fitted) and loaded.params == fitted.params
    assert no_pickle(tmp_path)


@pytest.mark.parametrize("name", METHODS)
def test_a_seed_decides_everything(name, training, testing):
    one, two = (make(name, settings(name)).fit(training, seed=5).predict_proba(testing) for _ in range(2))
    assert np.array_equal(one, two)


@pytest.mark.parametrize("name", NETWORKS)
def test_another_seed_gives_another_fit(name, training, testing):
    one, two = (make(name, settings(name)).fit(training, seed=s).predict_proba(testing) for s in (1, 2))
    assert not np.array_equal(one, two)


@pytest.mark.parametrize("name", TRAINED)
def test_one_class_is_refused(name, training):
    all_right = dataclasses.replace(training, correct=np.ones(len(training), dtype=bool))
    with pytest.raises(InvalidInputError, match=r"160 right and 0 wrong"):
        make(name, settings(name)).fit(all_right, seed=0)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_states_that_are_not_finite_are_refused_by_all_who_read_them(name, bad, training, monkeypatch):
    store, touched = training.store, []
    last, answer, batches = store.last, store.answer, store.batches

    def spoil(values):
        touched.append(name)
        values = values.copy()
        values[0, 0] = bad
        return values

    monkeypatch.setattr(store, "last", lambda *a, **k: spoil(last(*a, **k)))
    monkeypatch.setattr(store, "answer", lambda *a, **k: spoil(answer(*a, **k)))
    monkeypatch.setattr(
        store, "batches", lambda *a, **k: (dataclasses.replace(b, values=spoil(b.values)) for b in batches(*a, **k))
    )
    if name in READS_STATES:
        with pytest.raises(InvalidInputError, match="NaN or infinity"):
            make(name, settings(name)).fit(training, seed=0)
    else:
        make(name, settings(name)).fit(training, seed=0)
        assert not touched


@pytest.mark.parametrize("name", METHODS)
def test_a_missing_layer_is_named_with_what_to_do(name, store):
    probe = make(name, {})
    if not probe.layers(6):
        assert pick_layer(store, probe, 6) == 6
        return
    with pytest.raises(NotFoundError, match=r"layer \d is not in .* \(has 3, 4\)$") as caught:
        pick_layer(store, probe, 6)
    wanted = ",".join(str(layer) for layer in probe.layers(6))
    assert caught.value.hint == f"extract again with --layers {wanted} into a new --out"


@pytest.mark.parametrize("name", METHODS)
def test_a_plain_store_is_enough_or_the_flag_that_is_lacking_is_named(name, plain, fits):
    probe = make(name, settings(name))
    if name not in NEEDY:
        probe.fit(plain, seed=0).predict_proba(plain)
        return
    for act in (lambda: probe.predict_proba(plain), lambda: probe.fit(plain, seed=0)):
        with pytest.raises(NotFoundError, match=rf"{name} needs .* which .*tiny\.zarr does not have$") as caught:
            act()
        assert caught.value.hint == f"extract again with {probe.traits.flags} into a new --out"


@pytest.mark.parametrize("name", METHODS)
def test_a_store_of_states_alone_serves_those_who_read_no_answer(name, training, monkeypatch):
    manifest = training.store.manifest
    identity = {**manifest.identity, "generation": {"greedy": True, "max_new_tokens": 0}}
    monkeypatch.setattr(training.store, "manifest", dataclasses.replace(manifest, identity=identity))
    probe = make(name, settings(name))
    if name in [*BEFORE_THE_ANSWER, *NEEDY]:
        probe.fit(training, seed=0)
    else:
        with pytest.raises(NotFoundError, match=rf"{name} needs the model's answers, which .* does not have") as caught:
            probe.fit(training, seed=0)
        assert "without --max-new-tokens 0 into a new --out" in caught.value.hint


def test_what_is_known_when_is_as_the_docs_say(methods_page):
    said = dict(re.findall(r"^\| \[`([\w-]+)`\]\([^|]*\|[^|]*\| ([^|]*?) \|", methods_page, re.MULTILINE))
    assert {name for name in METHODS if said[name].startswith("before")} == set(BEFORE_THE_ANSWER)


@pytest.mark.parametrize("name", METHODS)
def test_unknown_settings_are_refused_with_those_there_are(name):
    with pytest.raises(InvalidInputError, match="settings and defaults"):
        make(name, {"learning_rat": 1})


@pytest.mark.parametrize("name", TRAINED)
def test_training_without_grades_is_refused(name, testing):
    with pytest.raises(InvalidInputError, match="no grades"):
        make(name, settings(name)).fit(testing, seed=0)


@pytest.mark.parametrize("name", [name for name in TRAINED if name not in {*CONTROLS, *READS_CONFIDENCE_ALONE}])
def test_a_clear_signal_is_learned(name, training, testing):
    """Labels that the question's family decides must be found again, out of sample."""

    def signal(examples: Examples):
        return examples.table["family"].is_in(["bars", "clock"]).to_numpy()

    labelled = dataclasses.replace(training, correct=signal(training))
    scores = make(name, settings(name, 20)).fit(labelled, seed=0).predict_proba(testing)
    assert roc_auc_score(signal(testing), scores) > 0.8


@pytest.mark.parametrize(
    "name", ["cascade", "cascade-logprob", "fusion", "kernel-posthoc", "posthoc", "question-confidence"]
)
def test_confidence_is_learned_by_all_who_read_it(name, training, testing):
    """Labels that the answer's mean log-prob decides."""

    def signal(examples: Examples):
        mean = examples.table["logprobs"].list.mean().fill_null(-9.0)
        return (mean > training.table["logprobs"].list.mean().median()).to_numpy()

    labelled = dataclasses.replace(training, correct=signal(training))
    scores = make(name, settings(name, 20)).fit(labelled, seed=0).predict_proba(testing)
    assert roc_auc_score(signal(testing), scores) > 0.8


@pytest.mark.parametrize("name", ["cascade", "cascade-logprob", "fusion", "kernel-posthoc"])
def test_log_probs_that_are_not_finite_are_refused(name, training):
    table = training.store.samples.with_columns(logprobs=pl.Series([[float("nan")]] * len(training.store)))
    training.store.index.__dict__["samples"] = table
    with pytest.raises(InvalidInputError, match="NaN or infinity"):
        make(name, settings(name)).fit(training, seed=0)
