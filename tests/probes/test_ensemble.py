"""Ensembles: the mean of fits that differ in their seeds, as any router: kept, opened, explained, stacked, swept."""

import dataclasses
import shutil

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import roc_auc_score

from relope import steps
from relope.errors import InvalidInputError, StoreError
from relope.probes.ensemble import Ensemble
from relope.probes.logistic import logit, sigmoid
from relope.probes.protocol import Explains, Exports, block_use, fresh, load, make, method_class, note_of
from relope.probes.router import load_router
from relope.spec import ExportSpec, FitSpec, SweepSpec

QUICK = {"epochs": 2}
THREE = {**QUICK, "members": 3}
TRAINED = ("probe", "posthoc", "attention-probe", "relope")


@pytest.mark.parametrize("name", TRAINED)
def test_its_logit_is_the_mean_of_fits_with_seeds_of_their_own(name, training, testing):
    whole = make(name, THREE).fit(training, seed=2).predict_proba(testing)
    alone = [make(name, QUICK).fit(training, seed=seed).predict_proba(testing) for seed in (6, 7, 8)]
    assert np.array_equal(whole, sigmoid(np.mean([logit(scores) for scores in alone], axis=0)))
    assert whole.dtype == np.float32


@pytest.mark.parametrize("name", TRAINED)
def test_it_is_kept_and_opened_to_the_bit(name, training, testing, tmp_path):
    fitted = make(name, THREE).fit(training, seed=0)
    fitted.save(tmp_path)
    opened = load(name, tmp_path)
    assert isinstance(opened, Ensemble) and opened.params == fitted.params and opened.name == name
    assert np.array_equal(opened.predict_proba(testing), fitted.predict_proba(testing))
    assert note_of(opened) == "the mean of 3 fits"


def test_one_fit_is_no_ensemble():
    assert type(make("probe", {"members": 1})) is method_class("probe")
    with pytest.raises(InvalidInputError, match="members"):
        make("probe", {"members": 0})


def test_what_a_method_can_do_its_ensembles_can_where_a_mean_says_something(training, testing):
    probe = make("attention-probe", THREE).fit(training, seed=0)
    assert isinstance(probe, Explains)
    one, other, third = (fit.token_weights(testing)[0] for fit in probe.fits_)
    weights = probe.token_weights(testing)[0]
    assert np.allclose(weights, (one + other + third) / 3) and weights.sum() == pytest.approx(1, abs=1e-5)
    assert not isinstance(make("probe", THREE), Explains)
    assert not isinstance(make("relope", THREE), Exports)
    assert block_use(make("relope", THREE)) == "replayed" and block_use(make("probe", THREE)) == "none"
    assert make("relope", THREE).layers(4) == (3, 4) and make("probe", THREE).traits == method_class("probe").traits


def test_settings_that_say_how_samples_are_run_reach_the_fits(training, testing):
    probe = make("attention-probe", THREE).fit(training, seed=0)
    before = probe.predict_proba(testing)
    probe.params = make("attention-probe", {**THREE, "batch": 7}).params
    assert {fit.params.batch for fit in probe.fits_} == {7} and {fit.params.members for fit in probe.fits_} == {1}
    assert np.allclose(probe.predict_proba(testing), before, atol=1e-6)
    assert fresh(probe).params == probe.params and not fresh(probe).fits_


def test_progress_counts_all_fits(training):
    told = []
    make("probe", {**QUICK, "members": 2}).fit(
        training, seed=0, progress=lambda done, total: told.append((done, total))
    )
    assert told[-1] == (4, 4) and [done for done, _ in told] == sorted(done for done, _ in told)


def test_each_fit_keeps_a_state_of_its_own(training, testing, tmp_path):
    kept = dataclasses.replace(training, state=tmp_path / "fit.safetensors")
    first = make("attention-probe", THREE).fit(kept, seed=0)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"fit{one}.safetensors" for one in (".1", ".2", "")]
    again = make("attention-probe", THREE).fit(kept, seed=0)
    assert np.array_equal(first.predict_proba(testing), again.predict_proba(testing))


def test_a_router_of_several_fits_through_the_steps(store_path, store, tmp_path):
    steps.run(FitSpec(method="relope", store=store_path, out=tmp_path / "r", set=THREE, device="cpu"))
    router = load_router(tmp_path / "r")
    assert isinstance(router.probe, Ensemble) and router.get_params()["members"] == 3
    assert np.isfinite(router.predict_proba(store)).all()
    with pytest.raises(InvalidInputError, match="router of relope, the mean of 3 fits, which has no adapter"):
        steps.run(ExportSpec(folder=tmp_path / "r", out=tmp_path / "adapter"))


def test_a_fit_that_is_lost_is_told(training, tmp_path):
    make("probe", THREE).fit(training, seed=0).save(tmp_path)
    shutil.rmtree(tmp_path / "fits" / "2")
    with pytest.raises(StoreError, match="no fitted router, or a damaged one"):
        load("probe", tmp_path)


def test_a_stack_takes_ensembles(training, testing, tmp_path):
    settings = {"methods": "probe,question-confidence", "folds": 2, **QUICK, "members": 2}
    stack = make("fusion", settings).fit(training, seed=0)
    stack.save(tmp_path)
    opened = load("fusion", tmp_path)
    assert np.array_equal(opened.predict_proba(testing), stack.predict_proba(testing))
    assert isinstance(make("fusion", settings).members_["probe"], Ensemble)
    assert not isinstance(make("fusion", settings).members_["question-confidence"], Ensemble)


def test_a_sweep_judges_an_ensemble_on_what_none_of_its_fits_saw(store_path, tmp_path):
    spec = SweepSpec(
        method="probe", store=store_path, grid={"members": (1, 2)}, set=QUICK, seeds=1, out=tmp_path / "s.parquet"
    )
    steps.run(spec)
    table = pl.read_parquet(tmp_path / "s.parquet").sort("members")
    assert table["n_epochs"].to_list() == [2, None] and table["inner_auc"].is_not_null().all()
    row = table.row(1, named=True)
    assert row["inner_auc"] == pytest.approx(roc_auc_score(row["held_correct"], row["held_score"]))
