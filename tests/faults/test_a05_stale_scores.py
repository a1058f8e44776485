"""A5: scores of a router that was fitted anew are refused; a router that another one replaces is kept."""

import shutil

import pytest
from stepping import step

from relope.errors import InvalidInputError
from relope.probes.router import load_router, read_record


@pytest.fixture
def store(store_path, tmp_path):
    return shutil.copytree(store_path, tmp_path / "tiny.zarr")


def test_a5_scores_of_a_router_that_was_fitted_anew_are_refused(store, tmp_path):
    router = step("fit", method="probe", store=store, set={"epochs": 2}).path
    step("predict", router=router, store=store)
    step("evaluate", store=store, bootstrap=100)
    step("fit", method="probe", store=store, set={"epochs": 3})
    with pytest.raises(
        InvalidInputError, match=r"probe.parquet was made by a router that is no longer the one in"
    ) as said:
        step("evaluate", store=store, bootstrap=100, out=tmp_path / "stale")
    assert "relope predict --router" in said.value.hint and not (tmp_path / "stale").exists()
    step("predict", router=router, store=store)
    step("evaluate", store=store, bootstrap=100, out=tmp_path / "anew")


def test_a5_also_where_router_and_scores_lie_elsewhere(store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for epochs in (2, 3):
        step("fit", method="probe", store="tiny.zarr", set={"epochs": epochs}, out="mine/router")
        if epochs == 2:
            step("predict", router="mine/router", store="tiny.zarr", out="scores/probe.parquet")
            step("evaluate", store="tiny.zarr", scores="scores", bootstrap=100, out="report")
    with pytest.raises(InvalidInputError, match="no longer the one in mine/router"):
        step("evaluate", store="tiny.zarr", scores="scores", bootstrap=100, out="report")


def test_a5_a_router_beside_the_store_is_not_mistaken_for_the_one_that_scored(store, tmp_path):
    step("fit", method="probe", store=store, set={"epochs": 2})
    step("fit", method="probe", store=store, set={"epochs": 3}, out=tmp_path / "other" / "probe")
    step("predict", router=tmp_path / "other" / "probe", store=store)
    outcome = step("evaluate", store=store, bootstrap=100)
    (row,) = (row for row in outcome.report.methods if row.method == "probe")
    assert row.settings["epochs"] == 3


def test_a5_a_router_that_another_one_replaces_is_kept_under_its_fingerprint(store):
    first = step("fit", method="probe", store=store, set={"epochs": 2})
    old = read_record(first.path)
    done = step("fit", method="probe", store=store, set={"epochs": 3}, seed=0)
    kept = first.path.with_name(f"probe.{old.fingerprint[:12]}")
    assert str(kept) in done.text and "settings {'epochs': 2} → {'epochs': 3}" in done.text
    assert done.facts["kept"] == str(kept) and read_record(kept) == old and load_router(kept).probe.params.epochs == 2
    assert read_record(first.path).settings == {"epochs": 3}
    again = step("fit", method="probe", store=store, set={"epochs": 2})
    again_record = read_record(first.path)
    assert "kept in" in again.text and again_record.fingerprint == old.fingerprint
    step("fit", method="probe", store=store, set={"epochs": 3})  # what it replaces is kept already
    assert read_record(kept) == again_record
    assert len(list(first.path.parent.iterdir())) == 3
