"""The bill of an extraction equals what the store then weighs."""

import json

import pytest
from typer.testing import CliRunner

from relope import steps
from relope.cli import app
from relope.errors import StoreError
from relope.extract import bill as module
from relope.extract.batches import Batches
from relope.extract.bill import duration, estimate
from relope.extract.plan import by_length
from relope.extract.timing import time_batches
from relope.spec import ExtractSpec, PlanSpec
from relope.types import no_progress

ASKED = {"model": "tiny-vl", "dataset": "tiny", "split": ("test",), "limit": 40}


@pytest.mark.parametrize("tokens", ["all", "lean"])
def test_the_bill_is_what_the_store_weighs(tmp_path, tokens):
    out = tmp_path / "x.zarr"
    bill = steps.run(PlanSpec(**ASKED, tokens=tokens, out=out)).facts
    assert not out.exists()
    steps.run(ExtractSpec(**ASKED, tokens=tokens, out=out))
    part = next(out.glob("parts/*/COMMIT.json")).parent
    sizes = {
        kind: sum(f.stat().st_size for f in (part / kind).rglob("*") if f.is_file()) for kind in ("hidden", "last")
    }
    layers = bill["bytes_per_layer"]
    kept = sum(layers.values()) if tokens == "all" else layers["3"]
    assert bill["samples"] == bill["samples_read"] == 40
    assert sizes["hidden"] == pytest.approx(kept, rel=0.06)  # the last chunk is full of padding
    assert 2 * bill["bytes_last_token_per_layer"] == 2 * 40 * 128 * 4 <= sizes["last"]
    weighs = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    assert bill["bytes_total"][tokens] == pytest.approx(weighs, rel=0.1)
    assert bill["bytes_total"]["lean"] < bill["bytes_total"]["all"]


def test_plan_prints_bytes_ratio_and_free_space(tmp_path):
    asked = ["plan", "--model", "tiny-vl", "--dataset", "tiny", "--limit", "20", "--out", str(tmp_path / "x")]
    said = CliRunner().invoke(app, asked)
    assert said.exit_code == 0
    for part in ("layer 3:", "layer 4:", "assumed", "free where", "not estimated", "`--measure 64`"):
        assert part in said.stdout
    assert "\nevery token kept (default): " in said.stdout and "\nlean (--tokens lean): " in said.stdout
    assert "=" not in said.stdout, "a flag is not told as an argument of Python"
    assert json.loads(CliRunner().invoke(app, [*asked, "--json"]).stdout)["bytes_free"] > 0


def test_extract_warns_when_it_will_not_fit(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(module, "free_bytes", lambda path: 1000)
    steps.run(ExtractSpec(**{**ASKED, "limit": 4}, out=tmp_path / "x.zarr"))
    assert "needs about" in caplog.text and "1000 B free" in caplog.text
    caplog.clear()
    steps.run(ExtractSpec(**{**ASKED, "limit": 4}, out=tmp_path / "x.zarr"))
    assert "needs about" not in caplog.text, "nothing is left to write"


def test_a_part_of_the_data_is_read(backbone, questions, tmp_path):
    many = questions * 10
    bill = estimate(Batches(backbone, (3, 4), 0, "bfloat16"), many, tmp_path)
    lengths = [backbone.inputs([sample])["input_ids"].shape[1] for sample in questions]
    assert bill.samples == 400 and bill.tried <= 64
    assert bill.tokens == pytest.approx(sum(lengths) / len(lengths), rel=0.15)
    assert bill.all_tokens[4] == pytest.approx(bill.tokens * 400 * 128 * 2, rel=1e-3)


def test_measuring_runs_whole_batches_and_scales_by_prompt_tokens(backbone, questions):
    batches = Batches(backbone, (3, 4), 4, "float32")
    seen = []
    timing = time_batches(batches, questions, 8, 12, lambda done, total: seen.append((done, total)))
    assert (timing.samples, seen) == (16, [(1, 2), (2, 2)])
    ordered = sorted(questions, key=by_length)
    cut = [ordered[start : start + 8] for start in range(0, len(ordered), 8)]
    tokens = [int(backbone.inputs(batch)["attention_mask"].sum()) for batch in cut]
    assert timing.tokens == tokens[len(cut) // 4] + tokens[3 * len(cut) // 4]
    assert timing.of(2 * timing.tokens) == pytest.approx(2 * timing.seconds) and timing.seconds > 0
    assert time_batches(batches, questions[:3], 8, 64, no_progress).samples == 3


def test_plan_tells_the_time_when_it_may_measure(tmp_path):
    asked = ["plan", "--model", "tiny-vl", "--dataset", "tiny", "--limit", "20", "--measure", "16"]
    asked += ["--out", str(tmp_path / "x")]
    facts = json.loads(CliRunner().invoke(app, [*asked, "--json"]).stdout)
    assert facts["samples_run"] >= 16 and 0 < facts["seconds"] < 600
    assert "samples took" in CliRunner().invoke(app, asked).stdout
    assert not (tmp_path / "x").exists()


def test_times_are_readable():
    times = {1.23: "1.2 s", 89: "89.0 s", 90: "1.5 min", 5400: "1.5 h", 259200: "3.0 days"}
    assert {seconds: duration(seconds) for seconds in times} == times


def test_a_plan_refuses_a_store_that_extract_would_refuse(tmp_path):
    asked = {**ASKED, "limit": 4, "out": tmp_path / "x.zarr", "device": "cpu"}
    steps.run(ExtractSpec(**asked))
    auto = {"device": "auto"}
    for same in ({}, {"measure": 2}, {"devices": ("cpu",), **auto}, {"engine": "ray", **auto}):
        assert steps.run(PlanSpec(**{**asked, **same})).facts["samples"] == 4
    for changed in (
        {"model": "tiny-vl-large"},
        {"tokens": "lean"},
        {"dtype": "bfloat16"},
        {"attn": "eager"},
        {"max_new_tokens": 3},
    ):
        with pytest.raises(StoreError, match=r"x\.zarr holds another recipe: "):
            steps.run(PlanSpec(**{**asked, **changed}))
        with pytest.raises(StoreError, match=r"x\.zarr holds another recipe: "):
            steps.run(ExtractSpec(**{**asked, **changed}))
