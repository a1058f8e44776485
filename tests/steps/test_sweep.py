"""Sweeps: every run is the fit that `relope fit` makes, none is made twice, the best is selected."""

import json
from collections import Counter

import polars as pl
import pytest
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from relope import steps
from relope.cli import app
from relope.errors import InvalidInputError, NotFoundError, StoreError
from relope.probes.examples import Examples
from relope.probes.protocol import make
from relope.spec import SweepSpec
from relope.steps import sweep, sweep_runs
from relope.store import ActivationStore
from relope.store.grades import labelled
from relope.store.share.push import push

GRID = {"lora_rank": (2, 4), "beta": (0.0, 0.1)}


@pytest.fixture(scope="module")
def swept(store_path, tmp_path_factory):
    """A finished sweep of relope: 2 × 2 settings, 2 seeds."""
    spec = SweepSpec(
        method="relope",
        store=store_path,
        grid=GRID,
        seeds=2,
        set={"epochs": 2},
        out=tmp_path_factory.mktemp("sweep") / "runs.parquet",
        device="cpu",
    )
    return spec, steps.run(spec)


def test_every_run_is_in_the_table(swept):
    spec, outcome = swept
    table = pl.read_parquet(spec.out)
    assert len(table) == 8 == outcome.facts["runs"] == outcome.facts["computed"]
    assert set(table.select("lora_rank", "beta", "seed").rows()) == {
        (rank, beta, seed) for rank in (2, 4) for beta in (0.0, 0.1) for seed in (0, 1)
    }
    assert table["inner_auc"].is_between(0, 1).all() and table["best_epoch"].is_between(1, 2).all()
    assert {"method", "layer", "lora_alpha", "mode", "seconds"} < set(table.columns)


def test_a_run_is_the_fit_with_that_seed_and_setting(swept, store):
    rows, correct = labelled(store, ("train",), None)
    settings = {"epochs": 2, "lora_rank": 4, "beta": 0.1}
    history = make("relope", settings).fit(Examples(store, rows, correct, 4), seed=1).history_
    row = pl.read_parquet(swept[0].out).filter(lora_rank=4, beta=0.1, seed=1).to_dicts()[0]
    assert row["inner_auc"] == max(history.auc) and row["best_epoch"] == history.best + 1
    assert row["n_epochs"] == len(history.auc) and row["epochs"] == 2


@pytest.mark.parametrize(
    ("method", "grid"),
    [("relope", {"lora_rank": (2,)}), ("probe", {}), ("attention-probe", {}), ("question-kind", {"c": (1,)})],
)
def test_a_run_keeps_the_samples_it_was_judged_on(method, grid, store_path, store, tmp_path):
    few = {} if method == "question-kind" else {"epochs": 2}
    spec = SweepSpec(method=method, store=store_path, grid=grid, seeds=2, set=few, out=tmp_path / "x", device="cpu")
    (setting,) = steps.run(spec).facts["settings"]
    rows = pl.read_parquet(spec.out).to_dicts()
    labels, _ = labelled(store, ("train",), None)
    groups = store.samples[labels]["group"].to_list()
    for row in rows:
        assert roc_auc_score(row["held_correct"], row["held_score"]) == pytest.approx(row["inner_auc"], abs=1e-9)
        assert (row["model"], row["dataset"]) == ("tiny-vl", "tiny")
        # No group is cut: as many samples are held out of each as there are.
        held = Counter(sorted(set(groups))[number] for number in row["held_group"])
        assert held == {name: groups.count(name) for name in held} and 20 <= held.total() <= 40
    sizes = [len(row["held_group"]) for row in rows]
    assert setting["n_held"] == (min(sizes), max(sizes))
    low, high = setting["ci95"]
    assert low < setting["inner_auc"] < high


def test_the_table_of_an_older_version_is_swept_again(swept, store_path, tmp_path):
    old = pl.read_parquet(swept[0].out).drop("held_group", "held_correct", "held_score")
    old.with_columns(data=pl.lit("of version 1")).write_parquet(tmp_path / "old.parquet")
    spec = swept[0].model_copy(update={"out": tmp_path / "old.parquet", "grid": {"lora_rank": (2,)}, "seeds": 1})
    assert steps.run(spec).facts["computed"] == 1 and len(pl.read_parquet(tmp_path / "old.parquet")) == 1


def test_the_best_mean_over_seeds_is_selected(swept):
    """Of equal ones the first of the grid, which a user writes from small to large."""
    spec, outcome = swept
    means = pl.read_parquet(spec.out).group_by("lora_rank", "beta").agg(pl.col("inner_auc").mean())
    best = means.sort("inner_auc", "lora_rank", "beta", descending=[True, False, False]).to_dicts()[0]
    assert outcome.facts["inner_auc"] == pytest.approx(best["inner_auc"], abs=1e-12)
    assert outcome.facts["selected"] == {"lora_rank": best["lora_rank"], "beta": best["beta"]}
    assert f"--set lora_rank={best['lora_rank']}" in outcome.facts["fit"]
    (table,) = outcome.tables
    columns, rows = table.columns, table.rows
    assert columns[2:5] == ("inner AUC", "95 % interval", "sd") and rows[0][3].count("–") == 1
    assert len(rows) == 4 and sum("selected" in row[-1] for row in rows) == 1 and len(columns) == len(rows[0])


def test_what_to_type_can_be_typed():
    spec = SweepSpec(method="fusion", store="my runs/a.zarr", layer=2, split=("train", "more"), set={"layers": [2, 4]})
    best = sweep_runs.Setting({"layer": 3}, 0.7, None, None, (9, 9), 4, None, 1.0)
    said = "relope fit fusion --store 'my runs/a.zarr' --layer 3 --split train,more --set layers=2,4"
    assert sweep._fit_command(spec, best) == said


def test_again_reuses_all_and_a_larger_grid_fits_what_is_new(swept):
    spec, _ = swept
    assert steps.run(spec).facts["computed"] == 0 and steps.run(spec).reused
    larger = steps.run(spec.model_copy(update={"grid": {**GRID, "beta": (0.0, 0.1, 1.0)}, "seeds": 1}))
    assert larger.facts["computed"] == 2 and larger.facts["runs"] == 6


def test_an_interrupted_sweep_goes_on(store_path, tmp_path, monkeypatch):
    spec = SweepSpec(
        method="probe",
        store=store_path,
        grid={"layer": (3, 4)},
        seeds=2,
        set={"epochs": 1},
        out=tmp_path / "runs.parquet",
        device="cpu",
    )
    fit, made = sweep_runs._fit, []

    def third_fails(*arguments):
        made.append(arguments)
        if len(made) == 3:
            raise KeyboardInterrupt
        return fit(*arguments)

    monkeypatch.setattr(sweep_runs, "_fit", third_fails)
    with pytest.raises(KeyboardInterrupt):
        steps.run(spec)
    monkeypatch.undo()
    assert steps.run(spec).facts["computed"] == 2
    table = pl.read_parquet(spec.out)
    assert sorted(table.select("layer", "seed").rows()) == [(3, 0), (3, 1), (4, 0), (4, 1)]


def test_methods_that_hold_nothing_out_are_judged_on_a_split_of_ours(store_path, tmp_path):
    found = steps.run(
        SweepSpec(
            method="question-kind", store=store_path, grid={"c": (0.1, 1)}, seeds=2, out=tmp_path / "runs.parquet"
        )
    )
    assert pl.read_parquet(tmp_path / "runs.parquet")["best_epoch"].null_count() == 4
    assert 0 < found.facts["inner_auc"] < 1


@pytest.mark.parametrize("where", ["folder", "bucket"])
def test_features_are_read_once_for_all_fits(store_path, s3, tmp_path, monkeypatch, where):
    uri, read, inner = f"{s3}/tiny.zarr", [], ActivationStore._gathered
    if where == "bucket":
        push(store_path, uri)

    def gathered(self, name, numbers):
        read.append((self.is_remote, name, len(numbers)))
        return inner(self, name, numbers)

    monkeypatch.setattr(ActivationStore, "_gathered", gathered)
    spec = SweepSpec(
        method="probe",
        store=uri if where == "bucket" else store_path,
        grid={"epochs": (1, 2)},
        seeds=2,
        out=tmp_path / "runs.parquet",
        device="cpu",
    )
    assert steps.run(spec).facts["computed"] == 4
    assert read == [(where == "bucket", "last/4", 240)]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"method": "logprob"}, InvalidInputError, "trains nothing"),
        ({"grid": {"rank": (1,)}}, InvalidInputError, "settings and defaults"),
        ({"grid": {"layer": (0.5,)}}, InvalidInputError, "no block number"),
        ({"grid": {"layer": (6,)}}, NotFoundError, "layer 6 is not in"),
        ({"out": "damaged"}, StoreError, "no table of a sweep"),
    ],
)
def test_mistakes_are_said(change, error, message, store_path, tmp_path):
    if "out" in change:
        change = {"out": tmp_path / "damaged"}
        change["out"].write_bytes(b"no parquet")
    with pytest.raises(error) as said:
        steps.run(SweepSpec(**{"method": "probe", "store": store_path, "out": tmp_path / "x", **change}))
    assert message in said.value.lines


def test_the_command_takes_grids(store_path, tmp_path):
    command = [
        "sweep",
        "probe",
        "--store",
        store_path,
        "--grid",
        "lr=1e-3, 1e-2",
        "--grid",
        "head=logistic",
        "--seeds",
        1,
        "--set",
        "epochs=1",
        "--out",
        tmp_path / "runs.parquet",
    ]
    result = CliRunner().invoke(app, [str(part) for part in [*command, "--json"]])
    facts = json.loads(result.stdout)
    assert facts["runs"] == 2 and [entry["chosen"]["lr"] for entry in facts["settings"]] == [0.001, 0.01]
    assert "selected" in CliRunner().invoke(app, [str(part) for part in command]).stdout
    wrong = CliRunner().invoke(app, ["sweep", "probe", "--store", str(store_path), "--grid", "lr"])
    assert wrong.exit_code == 2 and "must be key=value" in wrong.stderr
