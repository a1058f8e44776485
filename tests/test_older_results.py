"""What an older relope left still opens: a store, its grades, routers, scores, a report and a sweep.

``data/made_at_d3e24c3`` was made by the commands of its day: 16 training and 16 test questions of ``tiny``.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from relope import steps
from relope.evaluate.report import read_report
from relope.evaluate.scores import read_scores
from relope.probes.protocol import make
from relope.probes.router import load_router
from relope.spec import build
from relope.store import open_store, verify
from relope.store.grades import labelled

DATA = Path(__file__).parent / "data" / "made_at_d3e24c3"
ROUTERS = ("probe", "question-kind")
STACKED = Path(__file__).parent / "data" / "made_at_2ef263c"
"""A router of `fusion` as it was before it stacked several methods, fitted on the same store, and its scores."""


@pytest.fixture
def older(tmp_path, monkeypatch):
    """A copy that may be written beside."""
    monkeypatch.chdir(tmp_path)
    for source in DATA.iterdir():
        shutil.copytree(source, tmp_path / source.name)
    return Path("tiny.zarr")


def run(step, **values):
    return steps.run(build(step, values))


def test_the_store_opens_whole_with_its_grades():
    assert verify(DATA / "tiny.zarr", deep=True) == []
    with open_store(DATA / "tiny.zarr") as store:
        assert len(store) == 32 and store.layers == (3, 4) and store.last(4).shape == (32, 128)
        rows, correct = labelled(store, ("train",), None)
        assert len(rows) == 16 and correct.sum() == 14


@pytest.mark.parametrize("name", ROUTERS)
def test_routers_give_the_scores_that_they_gave(older, name):
    then = read_scores(DATA / "tiny.zarr.scores" / f"{name}.parquet")
    told = run("predict", router=f"tiny.zarr.routers/{name}", store=older, out="now.parquet")
    assert told.facts["seen"] is None and "samples (which of them it learned from is not known: an older" in told.text
    now = read_scores(Path("now.parquet"))
    assert now.ids == then.ids
    np.testing.assert_allclose(now.scores, then.scores, rtol=0, atol=1e-6)


def test_a_stack_of_one_probe_gives_the_scores_that_it_gave(older):
    then = read_scores(STACKED / "tiny.zarr.scores" / "fusion.parquet")
    run("predict", router=str(STACKED / "tiny.zarr.routers" / "fusion"), store=older, out="now.parquet")
    now = read_scores(Path("now.parquet"))
    assert now.ids == then.ids and len(set(then.scores.tolist())) > 3
    np.testing.assert_allclose(now.scores, then.scores, rtol=0, atol=1e-6)
    router = load_router(STACKED / "tiny.zarr.routers" / "fusion")
    router.probe.save(Path("again"))
    again = type(make("fusion", {})).load(Path("again"))
    assert list(again.members_) == ["probe"] and np.array_equal(again.platt_, router.probe.platt_)


def test_the_report_is_made_again_with_the_same_numbers(older):
    then = json.loads((DATA / "tiny.zarr.report" / "report.json").read_text())
    run("evaluate", store=older, bootstrap=100, out="now")
    now = json.loads(Path("now/report.json").read_text())
    aucs = [{row["method"]: row["auc"] for row in report["methods"]} for report in (then, now)]
    assert aucs[0] == aucs[1]
    # So few answers are wrong that their intervals come in closed form since (A12).
    for new, old in zip(now["methods"], then["methods"], strict=True):
        assert new["ci95"] != old["ci95"] and new["ci95"][0] < new["auc"] < new["ci95"][1] < 1
    intervals = [key for key, value in then["hybrid"].items() if "ci95" in key and value]
    assert intervals and all(now["hybrid"][key] != then["hybrid"][key] for key in intervals)
    assert all(now["hybrid"][key] == value for key, value in then["hybrid"].items() if "ci95" not in key)


def test_the_report_is_read_whole():
    then = json.loads((DATA / "tiny.zarr.report" / "report.json").read_text())
    report = read_report(DATA / "tiny.zarr.report")
    read = report.to_json()
    for row in read["methods"]:
        assert {metric.pop("dropped") for metric in row["metrics"].values()} == {None}
        for gap in filter(None, (row["difference_to_probe"], row["best_over_control"])):
            assert gap.pop("n_minority") is None
    unknown = {"n_train": None, "layer": None, "settings": {}, "grader": ""}
    unknown |= {"learned_from": [], "commands": [], "dates": [], "needs": "", "seen": [], "n_seen": None}
    rows = [{**row, **unknown} for row in then["methods"]]
    added = {"warnings": [], "n_minority": None, "auc_interval": "bootstrap", "methods": rows}
    added |= {"budget": 0.2, "decision": None, "several": None, "seconds_answers": []}
    assert read == {**then, **added}
    assert report.best_row.auc == then["methods"][0]["auc"] and report.slices[0].n == then["slices"][0]["n"]


def test_an_older_report_is_compared_and_studied(older):
    assert run("compare", first="tiny.zarr.report", second="tiny.zarr.report").tables
    assert run("study", study="table2", reports="tiny.zarr.report", bootstrap=100, out="study").tables


def test_an_older_sweep_is_read():
    assert pl.read_parquet(DATA / "tiny.zarr.sweeps" / "probe.parquet")["inner_auc"].len() == 1
