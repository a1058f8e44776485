"""torchrun with two processes is the same fit as one process with the same batches."""

import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file

from relope import steps
from relope.errors import InvalidInputError
from relope.probes.parallel import World, process_group, world
from relope.spec import FitSpec

SETTINGS = {"epochs": 2, "batch": 9, "lora_dropout": 0.0}


def test_shares_cover_every_place_once():
    shares = [World(rank, 3).share(8) for rank in range(3)]
    assert sorted(np.concatenate(shares)) == list(range(8))


def test_without_torchrun_there_is_one_process():
    with process_group("cpu", shared=False) as alone:
        assert alone == world() == World(0, 1)


def test_two_processes_fit_what_one_does(store_path, tmp_path):
    """Batches of 9 do not divide by 2, and the last has one sample: a process has none of it."""
    script = tmp_path / "start.py"
    script.write_text("from relope.cli import main; main()")
    given = [part for key, value in SETTINGS.items() for part in ("--set", f"{key}={value}")]
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc-per-node",
            "2",
            script,
            "fit",
            "relope",
            "--store",
            store_path,
            "--set",
            "mode=truncated",
            "--split",
            "test",
            "--device",
            "cpu",
            "--out",
            tmp_path / "two",
            *given,
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("relope fitted on 80 samples") == 1
    steps.run(
        FitSpec(
            method="relope",
            store=store_path,
            split=("test",),
            out=tmp_path / "one",
            device="cpu",
            set={**SETTINGS, "mode": "truncated"},
        )
    )
    one, two = (load_file(tmp_path / name / "probe.safetensors") for name in ("one", "two"))
    assert set(one) == set(two)
    for name in one:
        assert np.allclose(one[name], two[name], atol=2e-5), name


def test_a_cached_fit_refuses_torchrun(store_path, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InvalidInputError, match="torchrun started 2 processes"):
        steps.run(FitSpec(method="relope", store=store_path, out=tmp_path / "r", device="cpu"))
