"""A router as an object: opened from its folder, it scores stores and has scikit-learn's habits."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from relope import steps
from relope.errors import InvalidInputError, NotFoundError, StoreError
from relope.evaluate.scores import read_scores
from relope.probes.router import RouterRecord, load_router, read_record, write_router
from relope.spec import FitSpec, PredictSpec

OLDER = Path(__file__).parents[1] / "data" / "made_at_d3e24c3"


@pytest.fixture(scope="module")
def folder(store_path, tmp_path_factory):
    """A fitted probe."""
    out = tmp_path_factory.mktemp("routers") / "probe"
    steps.run(FitSpec(method="probe", store=store_path, out=out, set={"epochs": 2, "head": "logistic"}, device="cpu"))
    return out


def test_it_gives_the_scores_of_the_step_predict(folder, store_path, store, tmp_path):
    made = steps.run(
        PredictSpec(router=str(folder), store=store_path, split=("train", "test"), out=tmp_path / "s.parquet")
    )
    router = load_router(folder)
    scores = router.predict_proba(store, ("train", "test"))
    assert scores.dtype == np.float32 and np.array_equal(scores, read_scores(made.path).scores.astype(np.float32))
    test = router.predict_proba(store_path)
    assert np.array_equal(test, scores[store.samples["split"].to_numpy() == "test"])
    assert np.array_equal(test, router.predict_proba(str(store_path), "test"))
    assert router.classes_.tolist() == [False, True]


def test_its_record_says_how_it_was_fitted(folder, store):
    record = load_router(folder).record
    assert (record.method, record.layer, record.seed, record.n_samples) == ("probe", 4, 0, 160)
    assert record.settings == {"epochs": 2, "head": "logistic"} and record.splits == ["train"]
    assert record.identity == dict(store.manifest.identity) and record.recipe_id == store.recipe_id


def test_settings_are_read_and_changed_like_an_estimators(folder, store):
    router = load_router(folder)
    before, params = router.predict_proba(store), router.get_params()
    assert params["head"] == "logistic" and params["patience"] == 5, "those not given have their defaults"
    assert router.set_params(batch=7) is router
    assert router.get_params() == {**params, "batch": 7} and np.array_equal(router.predict_proba(store), before)
    with pytest.raises(InvalidInputError, match="settings and defaults"):
        router.set_params(batches=7)
    with pytest.raises(ValueError, match="batch=0"):
        router.set_params(batch=0)
    assert router.get_params()["batch"] == 7


def test_a_setting_that_says_how_samples_are_run_takes_effect(store_path, store, tmp_path):
    steps.run(FitSpec(method="relope", store=store_path, out=tmp_path / "r", set={"epochs": 1}, device="cpu"))
    router = load_router(tmp_path / "r")
    fast = router.predict_proba(store)
    assert np.allclose(router.set_params(fast=False).predict_proba(store), fast, atol=1e-5)
    with pytest.raises(InvalidInputError, match="mode=truncated runs samples through the backbone") as caught:
        router.set_params(mode="truncated").predict_proba(store)
    assert "relope predict" in caught.value.hint


def test_what_trains_nothing_is_opened_by_its_name(store):
    router = load_router("logprob")
    assert router.record == RouterRecord("logprob") and router.get_params() == {}
    logprobs = store.samples.filter(split="test")["logprobs"].to_list()
    assert np.allclose(router.predict_proba(store), [np.exp(sum(values)) if values else 0 for values in logprobs])


def test_methods_on_traces_read_the_grades(traced_path):
    scores = load_router("self-consistency").predict_proba(traced_path)
    assert set(np.round(scores * 3).tolist()) <= {1, 2, 3} and len(scores) == 80


def test_mistakes_are_said(folder, store_path, store, tmp_path):
    with pytest.raises(NotFoundError, match="probe must be fitted first"):
        load_router("probe")
    with pytest.raises(NotFoundError, match=r"router folder .* is not there"):
        load_router(tmp_path / "nothing")
    with pytest.raises(NotFoundError, match="unknown split"):
        load_router(folder).predict_proba(store, "validation")
    damaged = Path(shutil.copytree(folder, tmp_path / "damaged"))
    (damaged / "router.json").write_text("{}")
    with pytest.raises(StoreError, match="is no router record"):
        load_router(damaged)


def test_a_store_of_another_recipe_is_refused_or_noted(folder):
    router = load_router(folder)
    with pytest.raises(InvalidInputError, match="fitted on another recipe"):
        router.predict_proba(OLDER / "tiny.zarr")
    older = load_router(OLDER / "tiny.zarr.routers" / "probe")
    assert older.record.n_samples == 16 and len(older.predict_proba(OLDER / "tiny.zarr")) == 16


def test_what_another_run_wrote_meanwhile_stays(folder, tmp_path):
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    router, written = load_router(copy), (copy / "router.json").read_bytes()
    write_router(copy, router.record, router.probe, router.marks)
    assert (copy / "router.json").read_bytes() == written
    newer = RouterRecord(**{**vars(router.record), "fingerprint": "another"})
    write_router(copy, newer, router.probe, router.marks)
    assert read_record(copy) == newer
