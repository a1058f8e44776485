"""A store against its model: the same states pass, others are named."""

import json
import shutil

import numpy as np
import pytest
import torch
from checkpoints import make
from typer.testing import CliRunner

from relope import steps
from relope.cli import app
from relope.errors import InvalidInputError
from relope.extract.recheck import recheck
from relope.spec import ExtractSpec, GradeSpec
from relope.steps.reopen import open_streams
from relope.store import ActivationStore, create_or_open


def verify(path, *flags):
    return CliRunner().invoke(app, ["store", "verify", str(path), *flags])


@pytest.fixture(scope="module")
def streams(store_path):
    return open_streams(ActivationStore.open(store_path))


def test_a_store_passes_against_its_model(store_path):
    said = verify(store_path, "--against-model", "6")
    assert said.exit_code == 0, said.output
    assert "6 samples run again" in said.stdout and "allowed 0.0001" in said.stdout


def test_a_store_without_samples_is_told_so(store_path, tmp_path):
    create_or_open(tmp_path / "x.zarr", ActivationStore.open(store_path).manifest)
    said = verify(tmp_path / "x.zarr", "--against-model", "6")
    assert said.exit_code == 2 and "has no samples yet" in said.stderr and "Traceback" not in said.output


@pytest.mark.parametrize(("dtype", "tokens"), [("bfloat16", "all"), ("float32", "lean")])
def test_lean_and_half_precision_stores_pass_too(tmp_path, dtype, tokens):
    out = tmp_path / "x.zarr"
    asked = {"model": "tiny-vl", "dataset": "tiny", "split": ("test",), "limit": 12}
    steps.run(ExtractSpec(**asked, out=out, dtype=dtype, tokens=tokens, max_new_tokens=0))
    with ActivationStore.open(out) as opened:
        found = recheck(opened, open_streams(opened), 5)
    assert not found.off and len(found.samples) == 5 and 0 <= found.worst[4] < found.tolerance
    assert found.tolerance == (0.05 if dtype == "bfloat16" else 1e-4)


def test_other_states_are_named(store, streams):
    """As if somebody had changed a weight: block 4 gives something else, block 3 does not."""
    weight = streams.backbone.blocks[3].mlp.down_proj.weight
    with torch.inference_mode():
        weight += 0.01
    try:
        found = recheck(store, streams, 4)
    finally:
        with torch.inference_mode():
            weight -= 0.01
    assert found.off == found.samples and found.worst[3] < 1e-4 < found.worst[4]


def test_another_model_is_refused(store, streams, monkeypatch):
    monkeypatch.setitem(streams.backbone.identity, "model_files", "other")
    with pytest.raises(InvalidInputError, match="made with another model: model_files differ"):
        recheck(store, streams, 1)


def test_a_problem_exits_with_2(store_path, monkeypatch):
    from relope.extract import recheck as module

    monkeypatch.setitem(module.TOLERANCE, "float32", 0.0)
    said = verify(store_path, "--against-model", "3", "--json")
    assert said.exit_code == 2 and "not what the model gives" in json.loads(said.stdout)[0]["what"]


def test_states_only(tmp_path):
    out = tmp_path / "x.zarr"
    asked = {"model": "tiny-vl", "dataset": "tiny", "split": ("test",), "limit": 10, "out": out}
    outcome = steps.run(ExtractSpec(**asked, max_new_tokens=0))
    assert "accuracy" not in outcome.facts
    with ActivationStore.open(out) as store:
        assert set(store.samples["response"]) == {""} and set(store.samples["finish_reason"]) == {"none"}
        assert not store.answer().any() and np.isfinite(store.last(4)).all()
    with pytest.raises(InvalidInputError, match="holds states only"):
        steps.run(GradeSpec(store=out))
    with pytest.raises(InvalidInputError, match="without answers"):
        steps.run(ExtractSpec(**{**asked, "out": tmp_path / "y"}, max_new_tokens=0, samples=1))
    shutil.rmtree(out)


def test_traces_reach_the_store_and_key_the_recipe(tmp_path):
    asked = {"model": "tiny-vl", "dataset": "tiny", "split": ("test",), "limit": 6}
    recipes = set()
    for extra in (
        {},
        {"seed": 3},
        {"samples": 2, "trace_tokens": 16},
        {"samples": 2, "trace_tokens": 16, "seed": 3},
        {"p_true": True},
    ):
        out = tmp_path / f"{len(recipes)}.zarr"
        steps.run(ExtractSpec(**asked, **extra, out=out))
        store = ActivationStore.open(out)
        columns = set(store.samples.columns)
        assert ({"traces_direct", "traces_chain"} <= columns) == ("samples" in extra)
        assert ("p_true" in columns) == ("p_true" in extra)
        if "samples" in extra:
            assert all(len(traces) == 2 for traces in store.samples["traces_chain"])
            assert any("answer" in trace for traces in store.samples["traces_chain"] for trace in traces)
        if extra == {"seed": 3}:
            assert store.recipe_id in recipes, "without samples the seed says nothing"
            shutil.rmtree(out)
        recipes.add(store.recipe_id)
    assert len(recipes) == 4


def test_a_model_that_was_given_by_a_relative_folder_is_found_from_elsewhere(tmp_path, monkeypatch):
    make("qwen2.5-vl", tmp_path / "ck")
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "s.zarr"
    steps.run(
        ExtractSpec(model="ck", dataset="tiny", split=("test",), limit=2, out=out, device="cpu", max_new_tokens=0)
    )
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    said = verify(out, "--against-model", "2")
    assert said.exit_code == 0, said.output


def test_a_question_that_has_changed_is_not_blamed_on_the_model(tmp_path):
    path, out = tmp_path / "q.jsonl", tmp_path / "s.zarr"
    rows = [
        {"id": f"q{n}", "question": f"what is {n} ?", "answer": "x", "caption": "c", "split": "test"} for n in range(3)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    steps.run(ExtractSpec(model="tiny-vl", dataset=str(path), out=out, device="cpu", max_new_tokens=1))
    assert verify(out, "--against-model", "3").exit_code == 0
    path.write_text(path.read_text().replace("what is 1 ?", "why ?"))
    said = verify(out, "--against-model", "3")
    assert said.exit_code == 2 and "1 samples have changed since they were extracted (first: q1)" in said.output
