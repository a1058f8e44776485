"""The stack: folds by group, scores that are never of the training set, settings that are passed on."""

import dataclasses

import numpy as np
import pytest

from relope.errors import InvalidInputError, NotFoundError
from relope.probes.methods import fusion as module
from relope.probes.protocol import block_use, make


def test_folds_cover_all_once_and_never_cut_a_group(rng):
    groups = np.char.add("g", rng.integers(0, 40, 200).astype(str))
    folds = module.group_folds(groups, 5, seed=0)
    assert sorted(np.concatenate([own for _, own in folds]).tolist()) == list(range(200))
    for others, own in folds:
        assert not set(groups[others]) & set(groups[own]) and len(others) + len(own) == 200
        assert 30 <= len(own) <= 50


def test_one_group_cannot_be_folded():
    with pytest.raises(InvalidInputError, match="share one image"):
        module.group_folds(np.array(["g"] * 9), 5, seed=0)


def test_the_stack_learns_from_scores_of_samples_that_the_probe_has_not_seen(training, monkeypatch):
    """A probe that knows its training labels by heart must not be believed for it."""
    made = []

    class Parrot:
        trains, params = True, None

        def fit(self, examples, *, seed, progress=None):
            self.known = dict(zip(examples.rows.tolist(), examples.labels.tolist(), strict=True))
            made.append(self)
            return self

        def predict_proba(self, examples):
            self.seen = sum(row in self.known for row in examples.rows.tolist())
            return np.array([self.known.get(row, 0.5) for row in examples.rows.tolist()], np.float32)

    monkeypatch.setattr(module, "make", lambda name, settings: Parrot())
    fitted = make("fusion", {}).fit(training, seed=0)
    assert [probe.seen for probe in made[:5]] == [0] * 5 and len(made[5].known) == len(training)
    assert abs(fitted.stack_.weights[0]) < 1e-6  # the column of the probe's logits says nothing out of fold


def test_scores_are_calibrated(training, testing):
    """Mean score and share of right answers agree out of sample, within four standard errors."""
    rng = np.random.default_rng(0)
    scores = make("fusion", {"epochs": 10}).fit(training, seed=0).predict_proba(testing)
    assert abs(scores.mean() - training.labels.mean()) < 4 * 0.5 / len(testing) ** 0.5
    noise = dataclasses.replace(training, correct=rng.random(len(training)) < 0.8)
    flat = make("fusion", {"epochs": 3}).fit(noise, seed=0).predict_proba(testing)
    assert abs(flat.mean() - noise.labels.mean()) < 0.1 and flat.std() < 0.15


def test_settings_go_to_the_probe_that_is_stacked():
    stacked = make("fusion", {"probe": "attention-probe", "pool": "image", "folds": 3, "c": 2})
    assert stacked.params.settings == {"pool": "image"} and stacked.params.folds == 3
    assert stacked.base_.params.pool == "image" and stacked.layers(4) == (3,)
    assert type(stacked.params)(**stacked.params.model_dump()) == stacked.params


def test_a_stacked_probe_runs_the_block_as_it_does_alone():
    for settings, use in (({}, "replayed"), ({"lora": False}, "none"), ({"mode": "truncated"}, "streamed")):
        assert block_use(make("fusion", {"probe": "relope", **settings})) == use
        assert block_use(make("relope", settings)) == use
    assert block_use(make("fusion", {})) == "none"


@pytest.mark.parametrize("probe", ["logprob", "mot", "fusion"])
def test_what_trains_nothing_cannot_be_stacked(probe):
    with pytest.raises(InvalidInputError, match=f"probe={probe} trains nothing"):
        make("fusion", {"probe": probe})


def test_an_unknown_probe_is_named():
    with pytest.raises(NotFoundError, match="did you mean 'probe'"):
        make("fusion", {"probe": "prob"})


@pytest.mark.parametrize("name", ["attention-probe", "relope", "cascade"])
def test_every_trained_probe_can_be_stacked(name, training, testing, tmp_path):
    short = {} if name == "cascade" else {"epochs": 1}
    fitted = make("fusion", {"probe": name, "folds": 2, **short}).fit(training, seed=0)
    fitted.save(tmp_path)
    assert np.array_equal(type(fitted).load(tmp_path).predict_proba(testing), fitted.predict_proba(testing))
