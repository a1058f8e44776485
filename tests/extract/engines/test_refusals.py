"""What a worker in another process refuses is told in two lines, and leaves no empty store in the way."""

import os
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

import relope.tiny
from relope import steps
from relope.cli import app
from relope.spec import build
from relope.store import ActivationStore

HELPERS = Path(__file__).parents[2] / "helpers"
MODEL = Path(relope.tiny.__file__).parent / "checkpoints" / "tiny-vl"


@pytest.mark.parametrize("engine", [["--devices", "cpu"], ["--engine", "ray", "--workers", "1"]])
def test_a_checkpoint_that_a_worker_refuses_leaves_nothing(engine, tmp_path, monkeypatch, request):
    if "ray" in engine:
        request.getfixturevalue("ray_cluster")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HELPERS), os.environ.get("PYTHONPATH", "")]))
    for file in ("processes", "engines.ray"):
        monkeypatch.setattr(f"relope.extract.{file}.WORKER", "strict_worker")
    shutil.copytree(MODEL, tmp_path / "model")
    asked = [
        "extract",
        "--model",
        tmp_path / "model",
        "--dataset",
        "tiny",
        "--limit",
        "4",
        "--out",
        tmp_path / "x.zarr",
    ]
    result = CliRunner().invoke(app, [str(word) for word in [*asked, "-q", *engine]])
    assert result.exit_code == 2 and "is refused: padding changes the states of layer" in result.stderr, result.output
    assert len(result.stderr.strip().splitlines()) <= 2 and [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_store_that_was_there_or_holds_a_part_stays(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HELPERS), os.environ.get("PYTHONPATH", "")]))
    shutil.copytree(MODEL, tmp_path / "model")
    fields = {"model": str(tmp_path / "model"), "dataset": "tiny", "split": "test", "out": tmp_path / "x.zarr"}
    steps.run(build("extract", {**fields, "limit": 4}))
    monkeypatch.setattr("relope.extract.processes.WORKER", "strict_worker")
    with pytest.raises(ValueError, match=r"on cpu: model .* is refused"):
        steps.run(build("extract", {**fields, "limit": 8, "devices": "cpu"}))
    assert len(ActivationStore.open(tmp_path / "x.zarr")) == 4
