"""Sweeps and pipelines on a real Ray: the same numbers as in this process, none fitted twice, mistakes told."""

import json
from contextlib import nullcontext

import polars as pl
import pytest
import torch
from typer.testing import CliRunner

from relope import steps
from relope.cli import app
from relope.errors import InvalidInputError, RelopeError, StoreError
from relope.pipeline import on_cluster
from relope.spec import SweepSpec, build
from relope.steps.sweep_worker import Worker

PIPELINE = """
mine:
  stages:
    fit:
      run: fit
      matrix: {method: [question-kind, probe], seed: [0, 1]}
      with: {method: "${matrix.method}", seed: "${matrix.seed}", store: "STORE",
             out: "${out}/${matrix.method}-${matrix.seed}"}
    sweep: {run: sweep, with: {method: question-kind, store: "STORE", seeds: 1, engine: ray, workers: 1,
                               out: "${out}/sweep.parquet"}}
    score:
      run: predict
      matrix: {method: [question-kind, probe], seed: [0, 1]}
      with: {router: "${fit.out}", store: "STORE", out: "${out}/scores/${matrix.method}@seed${matrix.seed}.parquet"}
    report: {run: evaluate, with: {store: "STORE", scores: "${out}/scores", bootstrap: 100, out: "${out}/report"}}
"""
CHANGES = ["seconds", "date", "command"]


@pytest.fixture(autouse=True)
def one_thread():
    """Compute on one thread here too, as a worker does."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def sweep(store, out, **more):
    return SweepSpec(method="probe", store=store, grid={"layer": (3, 4)}, seeds=2, set={"epochs": 1}, out=out, **more)


def test_a_sweep_on_workers_has_the_rows_of_one_here(ray_cluster, store_path, tmp_path):
    here = steps.run(sweep(store_path, tmp_path / "here.parquet", device="cpu"))
    told = []
    spec = sweep(store_path, tmp_path / "there.parquet", engine="ray", workers=2)
    there = steps.run(spec, lambda label: nullcontext(lambda done, total: told.append((done, total))))
    tables = [pl.read_parquet(out.path).drop(CHANGES).sort("key") for out in (here, there)]
    assert tables[0].equals(tables[1]) and there.facts["computed"] == 4
    assert told == [(done, 4) for done in range(5)]
    assert there.facts["inner_auc"] == here.facts["inner_auc"] and there.facts["selected"] == here.facts["selected"]
    assert steps.run(spec).reused


def test_a_worker_with_other_samples_and_a_wrong_setting_are_refused(store_path, tmp_path):
    fields = sweep(store_path, tmp_path / "x", device="cpu").model_dump(mode="json")
    worker = Worker({"folder": str(tmp_path), "spec": fields})
    with pytest.raises(StoreError, match=r"samples, grades or versions on .* are not those that the sweep of"):
        worker.work(iter([(0, [1, "another"])]), lambda number, row: None, print)
    for setting in ({"workers": 2}, {"engine": "ray", "device": "cpu"}):
        with pytest.raises(InvalidInputError, match="is not for the engine"):
            steps.run(sweep(store_path, tmp_path / "x", **setting))


def test_a_worker_runs_steps_and_goes_on_behind_one_that_fails(store_path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    worker, ended, told = on_cluster.Worker({"folder": str(tmp_path)}), {}, []
    asked = [{"method": method, "store": str(store_path), "out": tmp_path / method} for method in ("mot", "probe")]
    asked[1]["set"] = {"epochs": 1}
    worker.work(iter(enumerate(build("fit", fields) for fields in asked)), ended.__setitem__, told.append)
    assert isinstance(ended[0], RelopeError) and ended[1].path == tmp_path / "probe" and told[-1][0] == told[-1][1]


def test_a_pipeline_on_workers_has_the_numbers_of_one_here(ray_cluster, store_path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pipelines.yaml").write_text(PIPELINE.replace("STORE", str(store_path)))

    def run(out, *more):
        result = CliRunner().invoke(app, ["run", "mine", "--out", out, "--json", *more])
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    run("here", "--jobs", "1")
    on = ("--engine", "ray", "--jobs", "2")
    assert not any(step["reused"] for step in run("there", *on))
    reports = [json.loads((tmp_path / out / "report/report.json").read_text()) for out in ("here", "there")]
    aucs = [{row["method"]: row["auc_by_seed"] for row in report["methods"]} for report in reports]
    assert aucs[0] == aucs[1]
    for name in ("probe-1", "question-kind-0"):
        files = sorted(path.name for path in (tmp_path / "here" / name).glob("*.safetensors"))
        assert files
        for file in files:
            assert (tmp_path / "here" / name / file).read_bytes() == (tmp_path / "there" / name / file).read_bytes()
    assert all(step["reused"] for step in run("there", *on))  # and no cluster is asked for that


def test_a_step_that_fails_on_a_worker_names_its_stage(ray_cluster, store_path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = PIPELINE.replace("STORE", str(store_path)).replace("[question-kind, probe]", "[question-kind, mot]")
    (tmp_path / "pipelines.yaml").write_text(text)
    result = CliRunner().invoke(app, ["run", "mine", "--out", "out", "--engine", "ray", "--jobs", "1"])
    assert result.exit_code == 2 and "fit mot, 0: " in result.stderr, result.output
    assert (tmp_path / "out/question-kind-1/router.json").is_file()


def test_mistakes_of_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for words, told in (
        (["--engine", "rya"], "did you mean 'ray'"),
        (["--address", "auto"], "address is not for the engine local"),
        (["--engine", "ray", "--jobs", "999"], "can never be placed"),
    ):
        result = CliRunner().invoke(app, ["run", "tiny-all", "--out", "x", *words])
        assert result.exit_code == 2 and told in result.stderr, result.output
        assert not (tmp_path / "x").exists()
