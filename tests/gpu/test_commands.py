"""The commands on a GPU, from extraction to a decision."""

import json

import polars as pl
import pytest
from typer.testing import CliRunner

from relope.cli import app


def run(*arguments):
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output
    return done


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "tiny.zarr"
    for split, limit in (("train", 300), ("test", 150)):
        run("extract", "--model", "tiny-vl", "--dataset", "tiny", "--split", split, "--limit", limit, "--out", path,
            "--device", "cuda")  # fmt: skip
    return path


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("probe", ()),
        ("attention-probe", ()),
        ("posthoc", ()),
        ("relope", ()),
        ("relope", ("--set", "mode=truncated")),
        ("relope", ("--set", "mode=full")),
    ],
)
def test_fit_and_predict(method, settings, store, tmp_path):
    router = tmp_path / "router"
    run("fit", method, "--store", store, "--out", router, "--device", "cuda", "--set", "epochs=2", *settings)
    run("predict", "--router", router, "--store", store, "--device", "cuda", "--out", tmp_path / "scores.parquet")
    scores = pl.read_parquet(tmp_path / "scores.parquet")["score"]
    assert len(scores) >= 150 and scores.is_finite().all()


def test_from_fit_to_a_decision(store):
    run("fit", "probe", "--store", store, "--device", "cuda")
    run("predict", "--router", f"{store}.routers/probe", "--store", store, "--device", "cuda")
    run("evaluate", "--store", store)
    run("calibrate", "--budget", "0.2", "--split", "test", "--store", store, "--router", f"{store}.routers/probe")
    done = run(
        "route", "--bundle", f"{store}.bundles/probe", "--device", "cuda", "--json", "How many circles are there?"
    )
    assert json.loads(done.stdout)["route"] in ("small", "large")
