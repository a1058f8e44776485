"""Seconds of computation: beside a store and in no part of it, summed over its runs, shown by evaluate."""

import json
from types import SimpleNamespace

import polars as pl
import pytest
import torch
from made_answers import retold
from stepping import step

from relope.errors import StoreError
from relope.evaluate.numbers.answer_seconds import of_each
from relope.evaluate.numbers.records import Report
from relope.extract.model import generate
from relope.seals import sealed_json
from relope.steps import extract as extract_step
from relope.steps.answer_seconds import seconds_of
from relope.store import open_store
from relope.store.made import MadeBy, Took, note_made, parse_made, read_made

TOOK = Took(samples=8, seconds=2.0, seconds_beside=0.5, device="cpu", engine="local", batch_size=4)


def extract(out, **more):
    fields = {"model": "tiny-vl", "dataset": "tiny", "split": "test", "limit": 8, "device": "cpu", "batch_size": 4}
    return step("extract", **fields | more, out=out)


@pytest.fixture(scope="module")
def grown(tmp_path_factory):
    """A store of two runs, with traces: eight test questions, then eight of training."""
    out = tmp_path_factory.mktemp("grown") / "x.zarr"
    extract(out, samples=2)
    extract(out, samples=2, split="train")
    assert extract(out, samples=2).reused
    return out


def test_each_run_says_what_it_took_and_the_parts_do_not(grown, tmp_path):
    runs = [entry.took for entry in read_made(grown)]
    assert [(run.samples, run.device, run.engine, run.batch_size) for run in runs] == [(8, "cpu", "local", 4)] * 2
    assert all(0 < run.seconds_beside < run.seconds for run in runs), "traces are told apart"
    other = tmp_path / "again.zarr"
    extract(other, samples=2)
    extract(other, samples=2, split="train")
    assert open_store(other).content_id == open_store(grown).content_id
    assert [entry.took for entry in read_made(other)] != runs


def test_a_run_without_traces_has_none_beside_and_one_that_computes_nothing_has_none(tmp_path):
    out = tmp_path / "x.zarr"
    extract(out)
    assert [entry.took.seconds_beside for entry in read_made(out)] == [0.0]
    before = (out / "made.json").read_bytes()
    extract(out)
    step("grade", store=out, grader="exact")
    assert (out / "made.json").read_bytes() == before or read_made(out)[-1].took is None


def test_it_goes_along_with_push_pull_merge_and_convert(grown, tmp_path):
    took = {entry.took for entry in read_made(grown)}
    step("store push", store=grown, uri=f"file://{tmp_path}/team.zarr")
    step("store pull", uri=f"file://{tmp_path}/team.zarr", out=tmp_path / "pulled.zarr")
    step("store convert", store=grown, out=tmp_path / "packed.zarr", codec="zstd")
    step("store merge", stores=[str(grown), str(tmp_path / "pulled.zarr")], out=tmp_path / "both.zarr")
    for name in ("pulled", "packed", "both"):
        entries = [entry.took for entry in read_made(tmp_path / f"{name}.zarr")]
        assert set(entries) - {None} == took and len(entries) - entries.count(None) == 2, "nothing is counted twice"


def test_evaluate_shows_the_runs_of_the_one_and_each_answer_of_the_other(grown, tmp_path):
    step("predict", router="logprob", store=grown, out=tmp_path / "scores" / "logprob.parquet")
    large = retold(grown, tmp_path / "told.zarr", limit=8)
    step("grade", store=large)
    asked = {"store": grown, "large_store": large, "scores": tmp_path / "scores", "bootstrap": 100}
    report = step("evaluate", **asked, out=tmp_path / "r").report
    small, each = report.seconds_answers
    runs = [entry.took for entry in read_made(grown)]
    alone = sum(run.seconds - run.seconds_beside for run in runs)
    assert (small.model, small.where, small.n) == ("tiny-vl", "cpu, local, batches of 4", 16)
    assert small.mean == pytest.approx(alone / 16) and small.p50 is None and not small.holds_traces
    assert (each.model, each.where, each.n, each.mean, each.p50, each.p95) == ("told", "", 8, 0.25, 0.25, 0.25)
    page = (tmp_path / "r" / "report.html").read_text()
    assert "Seconds that answers took" in page and "nobody's latency" in page.replace("&#39;", "'")
    table = pl.read_csv(tmp_path / "r" / "tables" / "answer_seconds.csv")
    assert table["mean"].to_list() == pytest.approx([small.mean, 0.25])
    older = {key: value for key, value in report.to_json().items() if key != "seconds_answers"}
    assert Report.from_json(older).seconds_answers == ()


def test_seconds_of_each_are_of_the_samples_that_are_asked_about(grown, tmp_path):
    store = open_store(retold(grown, tmp_path / "told.zarr", limit=8))
    (row,) = seconds_of(store, store.samples["id"].head(3))
    assert row.n == 3 and seconds_of(store, store.samples["id"].head(0)) == []
    told = of_each("m", [4.0, 1.0, 2.0, 3.0])
    assert (told.mean, told.p50, told.p95, told.n) == (2.5, 2.0, 4.0, 4)


def test_devices_stand_apart_and_what_is_not_told_apart_is_said(grown):
    store, ids = open_store(grown), open_store(grown).samples["id"]
    n = len(seconds_of(store, ids))
    further = [
        MadeBy("2026-01-01T00:00:00Z", "relope extract", "1", Took(4, 8.0, None, "a server", "vllm", 64)),
        MadeBy("2026-01-02T00:00:00Z", "relope extract", "1", Took(12, 8.0, 0.0, "a server", "vllm", 64)),
    ]
    note_made(grown, further)
    rows = {row.where: row for row in seconds_of(store, ids)}
    served = rows["a server, vllm, batches of 64"]
    assert len(rows) == n + 1 and (served.n, served.mean, served.holds_traces) == (16, 1.0, True)


@pytest.mark.parametrize(
    "wrong",
    [
        {"seconds": float("nan")},
        {"seconds": -1},
        {"seconds": "2"},
        {"seconds_beside": float("inf")},
        {"samples": 0},
        {"samples": 2.5},
        {"device": 3},
        {"batch_size": None},
        {"more": 1},
    ],
)
def test_a_damaged_file_is_told(wrong):
    entry = {"date": "2026-01-01T00:00:00Z", "command": "relope extract", "relope": "1"}
    sound = sealed_json({"runs": [{**entry, "took": vars(TOOK)}, entry]})
    assert [each.took for each in parse_made(sound, "made.json")] == [TOOK, None], "an older relope's has none"
    with pytest.raises(StoreError, match="is damaged"):
        parse_made(sealed_json({"runs": [{**entry, "took": {**vars(TOOK), **wrong}}]}), "made.json")
    with pytest.raises(StoreError, match="is damaged"):
        parse_made(sealed_json({"runs": [{**entry, "took": [1]}]}), "made.json")


def test_a_run_without_seconds_is_written_as_older_versions_read_it(tmp_path):
    (tmp_path / "x").mkdir()
    note_made(tmp_path / "x", [MadeBy("2026-01-01T00:00:00Z", "relope grade")])
    (entry,) = json.loads((tmp_path / "x" / "made.json").read_text())["runs"]
    assert set(entry) == {"date", "command", "relope"}


def test_a_card_is_named_and_waited_for(monkeypatch):
    waited = []
    monkeypatch.setattr("torch.cuda.get_device_name", lambda device: f"card of {device[:4]}")
    monkeypatch.setattr("torch.cuda.synchronize", waited.append)

    def device(engine, backbone):
        return extract_step._device(
            SimpleNamespace(engine=SimpleNamespace(recorded=engine), backbone=SimpleNamespace(recorded=backbone))
        )

    assert device({"device": "cuda:0,cuda:1"}, {"device": "all"}) == "cuda:0,cuda:1 (card of cuda)"
    assert device({}, {"device": "cpu"}) == "cpu" and device({"vllm": "0.1"}, {}) == "a server"
    assert generate._clock(torch.device("cpu")) > 0 and not waited
    assert generate._clock(torch.device("cuda")) > 0 and waited == [torch.device("cuda")]
