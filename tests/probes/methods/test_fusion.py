"""Stacks: folds by group, scores that are never of the training set, members and penalty by inner validation."""

import dataclasses

import numpy as np
import pytest
from dying import die

from relope import steps
from relope.errors import InvalidInputError, NotFoundError
from relope.probes import folds as folding
from relope.probes import side_by_side
from relope.probes import stack as module
from relope.probes.folds import group_folds, out_of_fold
from relope.probes.protocol import block_use, check_settings, make
from relope.spec import FitSpec


def test_folds_cover_all_once_and_never_cut_a_group(rng):
    groups = np.char.add("g", rng.integers(0, 40, 200).astype(str))
    folds = group_folds(groups, 5, 0, "fusion")
    assert sorted(np.concatenate([own for _, own in folds]).tolist()) == list(range(200))
    for others, own in folds:
        assert not set(groups[others]) & set(groups[own]) and len(others) + len(own) == 200
        assert 30 <= len(own) <= 50


def test_one_group_cannot_be_folded():
    with pytest.raises(InvalidInputError, match="fusion: all training samples share one image"):
        group_folds(np.array(["g"] * 9), 5, 0, "fusion")


class Parrot:
    """Knows its training labels by heart, and nothing else."""

    params = None

    def __init__(self, params):
        self.asked = []

    def fit(self, examples, *, seed, progress=None):
        self.known = dict(zip(examples.rows.tolist(), examples.labels.tolist(), strict=True))
        return self

    def predict_proba(self, examples):
        return np.array([self.known.get(row, 0.5) for row in examples.rows.tolist()], np.float32)


def test_a_member_is_believed_for_what_it_says_of_samples_that_it_has_not_seen(training):
    folds = group_folds(training.groups, 5, 0, "fusion")
    said, whole = out_of_fold(Parrot(None), training, folds, seed=0)
    assert np.abs(said).max() < 1e-6 and len(whole.known) == len(training)


def test_features_are_read_once_for_all_folds(training, monkeypatch):
    before, read = training.store.bytes_read, make("statistics-probe", {}).features(training).nbytes
    assert read
    once = training.store.bytes_read - before
    folds = group_folds(training.groups, 5, 0, "fusion")
    assert isinstance(make("statistics-probe", {}), folding.FromFeatures)
    out_of_fold(make("statistics-probe", {}), training, folds, seed=0)
    assert training.store.bytes_read - before == 2 * once


def stacked(said, labels, groups):
    folds = group_folds(groups, 5, 0, "fusion")
    return module.Choice(said, labels, groups, folds, 0, module.STRENGTHS), folds


def test_a_member_that_says_nothing_is_left_out_and_one_that_adds_stays(rng):
    n = 2000
    truth = rng.normal(size=(2, n))
    labels = (rng.random(n) < 1 / (1 + np.exp(-2 * truth.sum(axis=0)))).astype(np.float32)
    said = {"first": truth[0], "noise": rng.normal(size=n), "second": truth[1], "copy": truth[0]}
    choice, _ = stacked(said, labels, np.arange(n).astype(str))
    names, c = choice.best()
    assert set(names) in ({"first", "second"}, {"copy", "second"}) and c in module.STRENGTHS
    assert set(stacked(dict(list(said.items())[::2]), labels, np.arange(n).astype(str))[0].best()[0]) == set(said) - {
        "noise",
        "copy",
    }


def test_members_are_left_out_by_how_losses_vary_over_groups(rng):
    """Eight copies of each sample say no more than one: the standard error is that of the images."""
    n = 120
    labels = (rng.random(n) < 0.5).astype(np.float32)
    said = {"first": 1.5 * labels + rng.normal(size=n), "second": 0.3 * labels + rng.normal(size=n)}
    choice, _ = stacked(said, labels, np.arange(n).astype(str))
    losses, than = rng.random(n), np.zeros(n)
    assert choice._worse(losses, than) == pytest.approx(losses.mean() / losses.std() * np.sqrt(n))
    eight = {name: np.repeat(of, 8) for name, of in said.items()}
    copies, _ = stacked(eight, np.repeat(labels, 8), np.repeat(np.arange(n), 8).astype(str))
    assert copies._worse(np.repeat(losses, 8), np.zeros(8 * n)) == pytest.approx(choice._worse(losses, than))
    assert choice._worse(than, than) == 0.0


def test_processes_side_by_side_give_the_same_router(store_path, tmp_path):
    asked = {"method": "fusion", "store": store_path, "device": "cpu", "seed": 1}
    asked["set"] = {"methods": "kernel-probe,probe,question-confidence", "folds": 2, "epochs": 1, "members": 2}
    one, two = (FitSpec(**asked, out=tmp_path / str(jobs), jobs=jobs) for jobs in (1, 2))
    for spec in (one, two):
        steps.run(spec)
    files = {path.relative_to(one.out): path.read_bytes() for path in one.out.rglob("probe.*")}
    assert len(files) >= 4 and files == {
        path.relative_to(two.out): path.read_bytes() for path in two.out.rglob("probe.*")
    }
    assert steps.run(one.model_copy(update={"jobs": 2})).reused


def test_a_process_that_is_killed_is_told(training, monkeypatch):
    monkeypatch.setattr(side_by_side, "_kept", die)
    settings = {"methods": "kernel-probe,question-confidence", "folds": 2}
    with pytest.raises(InvalidInputError, match="a process that fitted a method was killed") as caught:
        make("fusion", settings).fit(dataclasses.replace(training, jobs=2), seed=0)
    assert caught.value.hint == "fit again with --jobs 1"


def test_what_each_member_adds_is_told_paired_and_out_of_fold(training):
    fitted = make("fusion", {"methods": "kernel-probe,question-confidence", "folds": 3}).fit(training, seed=0)
    told = fitted.out_of_fold_
    assert set(told.alone) == {"kernel-probe", "question-confidence"} and len(told.stack) == len(training)
    assert set(told.without) == (set(fitted.members_) if len(fitted.members_) > 1 else set())
    assert not set(fitted.left_out_) & set(fitted.members_)


def test_a_second_fit_starts_anew(training):
    fitted = make("fusion-prefill", {"folds": 2}).fit(training, seed=0)
    again = fitted.predict_proba(training)
    assert np.array_equal(fitted.fit(training, seed=0).predict_proba(training), again)


def test_scores_are_calibrated(training, testing):
    """Mean score and share of right answers agree out of sample, within four standard errors."""
    rng = np.random.default_rng(0)
    scores = make("fusion", {}).fit(training, seed=0).predict_proba(testing)
    assert abs(scores.mean() - training.labels.mean()) < 4 * 0.5 / len(testing) ** 0.5
    noise = dataclasses.replace(training, correct=rng.random(len(training)) < 0.8)
    flat = make("fusion", {}).fit(noise, seed=0).predict_proba(testing)
    assert abs(flat.mean() - noise.labels.mean()) < 0.1 and flat.std() < 0.15


def test_settings_go_to_the_methods_that_have_them():
    probe = make("fusion", {"methods": "attention-probe,posthoc", "pool": "image", "epochs": 3, "folds": 3, "c": 2})
    assert probe.params.settings == {"pool": "image", "epochs": 3} and probe.params.methods == (
        "attention-probe",
        "posthoc",
    )
    members = probe.members_
    assert members["attention-probe"].params.pool == "image" and members["posthoc"].params.epochs == 3
    assert probe.layers(4) == (3,) and type(probe.params)(**probe.params.model_dump()) == probe.params


def test_a_setting_that_no_member_has_is_refused_before_anything_is_loaded():
    for act in (check_settings, make):
        with pytest.raises(InvalidInputError, match="no setting 'epoch'"):
            act("fusion", {"methods": "probe,posthoc", "epoch": 3})


def test_a_stack_runs_the_block_as_its_members_do():
    for settings, use in (({}, "replayed"), ({"lora": False}, "none"), ({"mode": "truncated"}, "streamed")):
        assert block_use(make("fusion", {"methods": "probe,relope", **settings})) == use
    assert block_use(make("fusion", {})) == block_use(make("fusion-prefill", {})) == "none"


def test_all_that_can_be_stacked():
    everything = make("fusion", {"methods": "all"})
    before = make("fusion-prefill", {"methods": "all"})
    assert {"probe", "attention-probe", "relope", "posthoc", "cascade"} < set(everything.members_)
    assert {"probe", "relope", "question-kind"} < set(before.members_) < set(everything.members_)
    assert not {"fusion", "fusion-prefill", "posthoc", "cascade"} & set(before.members_)


@pytest.mark.parametrize("name", ["logprob", "mot", "fusion", "fusion-prefill"])
def test_what_trains_nothing_cannot_be_stacked(name):
    with pytest.raises(InvalidInputError, match=f"{name} trains nothing"):
        make("fusion", {"methods": name})


def test_what_reads_the_answer_is_not_known_before_it():
    with pytest.raises(InvalidInputError, match="fusion-prefill: posthoc reads the answer"):
        make("fusion-prefill", {"methods": "probe,posthoc"})


def test_an_unknown_method_is_named():
    with pytest.raises(NotFoundError, match="did you mean 'probe'"):
        make("fusion", {"methods": "prob"})


@pytest.mark.parametrize("name", ["attention-probe", "relope", "cascade"])
def test_every_trained_probe_can_be_stacked(name, training, testing, tmp_path):
    short = {} if name == "cascade" else {"epochs": 1}
    fitted = make("fusion", {"methods": f"{name},cascade-logprob", "folds": 2, **short}).fit(training, seed=0)
    fitted.save(tmp_path)
    loaded = type(fitted).load(tmp_path)
    assert np.array_equal(loaded.predict_proba(testing), fitted.predict_proba(testing))
    assert loaded.note == fitted.note
