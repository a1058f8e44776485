"""A fit that is stopped anywhere goes on and ends with the same weights, to the bit."""

import dataclasses
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from relope import steps
from relope.errors import InvalidInputError
from relope.probes import resume
from relope.probes.protocol import make
from relope.spec import FitSpec
from relope.types import no_progress

SETTINGS = {"epochs": 6, "patience": 6}


def stop_after(epochs):
    def progress(done, total):
        if done == epochs:
            raise KeyboardInterrupt

    return progress


def weights(probe):
    return (probe.net_ if hasattr(probe, "net_") else probe.learned_).state_dict()


@pytest.mark.parametrize("name", ["attention-probe", "relope"])
@pytest.mark.parametrize("epochs", [2, 6])
def test_a_stopped_fit_goes_on(name, epochs, training, tmp_path, monkeypatch):
    monkeypatch.setattr(resume, "_SHARE", 1e9)  # write after every epoch
    whole = make(name, SETTINGS).fit(training, seed=1)
    kept = dataclasses.replace(training, state=tmp_path / "state.safetensors")
    with pytest.raises(KeyboardInterrupt):
        make(name, SETTINGS).fit(kept, seed=1, progress=stop_after(epochs))
    begun = []
    again = make(name, SETTINGS).fit(kept, seed=1, progress=lambda done, total: begun.append(done))
    assert begun[0] == min(epochs + 1, 6)
    assert again.history_ == whole.history_
    one, two = weights(whole), weights(again)
    assert all(np.array_equal(one[key].numpy(), two[key].numpy()) for key in one) and set(one) == set(two)


@pytest.mark.parametrize("change", ["seed", "settings", "damage"])
def test_the_state_of_another_fit_is_not_gone_on_from(change, training, tmp_path):
    kept = dataclasses.replace(training, state=tmp_path / "state.safetensors")
    with pytest.raises(KeyboardInterrupt):
        make("attention-probe", SETTINGS).fit(kept, seed=1, progress=stop_after(2))
    if change == "damage":
        kept.state.write_bytes(kept.state.read_bytes()[:-100])
    seed, settings = (2 if change == "seed" else 1), {**SETTINGS, **({"lr": 0.01} if change == "settings" else {})}
    begun = []
    again = make("attention-probe", settings).fit(kept, seed=seed, progress=lambda done, total: begun.append(done))
    assert begun[0] == 1
    whole = make("attention-probe", settings).fit(training, seed=seed)
    assert again.history_ == whole.history_


def test_a_part_of_the_samples_keeps_no_state(training, tmp_path):
    kept = dataclasses.replace(training, state=tmp_path / "state.safetensors")
    assert kept.take(np.arange(100)).state is None


def test_a_loss_that_is_no_number_is_said(training):
    with pytest.raises(InvalidInputError, match=r"loss of epoch 1 is (nan|inf)"):
        make("attention-probe", {"lr": 1e30, "epochs": 2}).fit(training, seed=0, progress=no_progress)


def test_killed_and_started_again_it_ends_with_the_same_weights(store_path, tmp_path):
    asked = {"epochs": 20, "patience": 20}
    steps.run(FitSpec(method="attention-probe", store=store_path, out=tmp_path / "whole", set=asked, device="cpu"))
    command = [
        sys.executable,
        "-c",
        "from relope.cli import main; main()",
        "fit",
        "attention-probe",
        "--store",
        str(store_path),
        "--out",
        str(tmp_path / "killed"),
        "--set",
        "epochs=20",
        "--set",
        "patience=20",
        "--device",
        "cpu",
    ]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    unfinished = tmp_path / "killed" / ".unfinished"
    while not list(unfinished.glob("*.safetensors")) and process.poll() is None:
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert list(unfinished.glob("*.safetensors")) and not (tmp_path / "killed" / "router.json").exists()
    steps.run(FitSpec(method="attention-probe", store=store_path, out=tmp_path / "killed", set=asked, device="cpu"))
    one, two = ((tmp_path / name / "probe.safetensors").read_bytes() for name in ("whole", "killed"))
    assert one == two
    left = {path.name for path in (tmp_path / "killed").iterdir()}
    assert left == {"learned.parquet", "probe.json", "probe.safetensors", "router.json"}
