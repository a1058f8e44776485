"""E12: equal scores are equal bytes, and what a resumed fit cost is the whole."""

import json
import shutil
from contextlib import contextmanager

import pytest
from stepping import step

from relope import steps
from relope.evaluate.scores import read_scores
from relope.probes import resume
from relope.probes.router import read_record
from relope.spec import build


@pytest.fixture
def store(store_path, tmp_path):
    return shutil.copytree(store_path, tmp_path / "tiny.zarr")


def test_e12_predicting_twice_gives_the_same_bytes(store, tmp_path):
    router = step("fit", method="probe", store=store, set={"epochs": 2}).path
    for name, asked in (("probe", router), ("logprob", "logprob")):
        one, two = tmp_path / "one" / f"{name}.parquet", tmp_path / "two" / f"{name}.parquet"
        for out in (one, two):
            step("predict", router=asked, store=store, out=out)
        assert one.read_bytes() == two.read_bytes()
        assert read_scores(one).seconds_predict > 0 and read_scores(one).run.command.startswith(
            "relope predict --router"
        )


def test_e12_the_note_beside_the_scores_may_be_gone(store, tmp_path):
    path = step("predict", router="logprob", store=store, out=tmp_path / "s" / "logprob.parquet").path
    note = path.with_name("logprob.run.json")
    assert json.loads(note.read_text())["date"].endswith("Z")
    note.unlink()
    assert read_scores(path).seconds_predict is None
    step("evaluate", store=store, scores=path.parent, bootstrap=100, out=tmp_path / "report")
    note.write_text("{")
    with pytest.raises(ValueError, match=r"logprob.run.json is damaged"):
        read_scores(path)


def test_e12_a_resumed_fit_has_read_the_whole(store, tmp_path, monkeypatch):
    monkeypatch.setattr(resume, "_SHARE", 1e9)  # write after every epoch
    asked = {"method": "attention-probe", "store": str(store), "set": {"epochs": 6, "patience": 6}, "device": "cpu"}
    whole = read_record(step("fit", **asked, out=tmp_path / "whole").path)

    @contextmanager
    def stopping(label):
        def progress(done, total):
            if done == 4:
                raise KeyboardInterrupt

        yield progress

    spec = build("fit", {**asked, "out": str(tmp_path / "resumed")})
    with pytest.raises(KeyboardInterrupt):
        steps.run(spec, stopping)
    read_until_then = json.loads(next((tmp_path / "resumed/.unfinished").glob("*.json")).read_text())
    steps.run(spec)
    resumed = read_record(tmp_path / "resumed")
    assert resumed.fingerprint == whole.fingerprint and resumed.bytes_read >= whole.bytes_read
    assert resumed.bytes_read > read_until_then[1] > 0 and resumed.seconds_fit > read_until_then[0] > 0
    assert not (tmp_path / "resumed/.unfinished").exists()
