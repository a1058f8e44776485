"""The engine vllm against a server that answers as vLLM does: what it asks, makes of answers, and refuses."""

import os
from pathlib import Path

import numpy as np
import pytest
from checkpoints import make
from token_server import token_server

from relope import partial, steps
from relope.errors import InvalidInputError, OutputError, UnsupportedError
from relope.extract import plan, served_answer
from relope.extract.engine import EngineError
from relope.extract.engines import vllm
from relope.extract.model import told as told_by_servers
from relope.extract.model.backbone import open_skeleton
from relope.extract.model.card import locate, open_card
from relope.extract.model.load import DTYPES
from relope.extract.model.parts import load_parts
from relope.spec import ExtractSpec
from relope.store import ActivationStore, has_block, verify
from relope.vllm.command import served_name

EXTRAS = {"samples": 1, "trace_tokens": 4, "p_true": True}


@pytest.fixture
def served(tmp_path, monkeypatch):
    """Give a function that starts a server for `extract`, and returns its URL's context."""
    folder = tmp_path / "states"
    folder.mkdir(mode=0o700)
    monkeypatch.setattr(vllm, "default_folder", lambda: folder)

    def start(layers=(3, 4, 6), **settings):
        name = served_name("tiny-vl", open_skeleton("tiny-vl", "cpu", "float32", identified=True).identity, layers)
        return token_server(folder, name, layers, **settings)

    return start


def extract(out, limit=8, **changes):
    asked = {"model": "tiny-vl", "dataset": "tiny", "split": ("test",), "batch_size": 4, "dtype": "float32"}
    return steps.run(ExtractSpec(**{**asked, "limit": limit, "out": out, **changes}))


def by_vllm(out, url, **changes):
    return extract(out, engine="vllm", vllm_url=url, **changes)


def far(a, b):
    return float((np.linalg.norm(a - b, axis=-1) / np.linalg.norm(b, axis=-1)).max())


def alike(made, local):
    """Hold a store against the one that is made here."""
    rows = np.arange(len(local))
    assert made.samples["id"].to_list() == local.samples["id"].to_list()
    for name in ("token_ids", "response", "finish_reason", "p_true_tokens", "n_tokens"):
        assert made.samples[name].to_list() == local.samples[name].to_list(), name
    for layer in local.manifest.layers:
        assert far(made.last(layer, rows), local.last(layer, rows)) <= 1e-5
        for ours, theirs in zip(made.batches(layer, rows, size=4), local.batches(layer, rows, size=4), strict=True):
            assert far(ours.values, theirs.values) <= 1e-5
    assert far(made.answer(rows), local.answer(rows)) <= 1e-5
    for name in ("logprobs", "entropies"):
        for ours, theirs in zip(made.samples[name], local.samples[name], strict=True):
            assert ours.to_list() == pytest.approx(theirs.to_list(), abs=1e-4)
    assert made.samples["p_true"].to_list() == pytest.approx(local.samples["p_true"].to_list(), abs=1e-5)
    for ours, theirs in zip(made.token_batch(rows), local.token_batch(rows), strict=True):
        assert np.array_equal(ours, theirs)


def test_its_store_holds_what_local_would_have_computed(served, tmp_path):
    extract(tmp_path / "local.zarr", **EXTRAS)
    with served() as (url, asked):
        outcome = by_vllm(tmp_path / "v.zarr", f"{url}/v1/", **EXTRAS)
        assert by_vllm(tmp_path / "v.zarr", url, **EXTRAS).reused
    made, local = ActivationStore.open(tmp_path / "v.zarr"), ActivationStore.open(tmp_path / "local.zarr")
    alike(made, local)
    assert outcome.facts["computed"] == 8 and verify(tmp_path / "v.zarr", deep=True) == []
    assert made.manifest.identity["engine"] == {"name": "vllm", "version": vllm.VERSION, "entropies": "whole"}
    assert made.manifest.recorded["vllm"] == "0.32.0" and has_block(tmp_path / "v.zarr", 4)
    assert made.manifest.identity.differing(local.manifest.identity) == ["engine"]
    kinds = [body["sampling_params"] for body in asked]
    assert sum("kv_transfer_params" in body for body in asked) == 8 + 2  # each of two runs tries the server
    assert all(kind["temperature"] in (0.0, 0.01, 0.7) for kind in kinds)
    assert len({kind["seed"] for kind in kinds if kind["temperature"] == 0.7}) == 16


def test_states_alone_take_one_token_and_no_last_block(served, tmp_path):
    extract(tmp_path / "local.zarr", max_new_tokens=0)
    with served((3, 4)) as (url, asked):
        by_vllm(tmp_path / "v.zarr", url, max_new_tokens=0)
    made, local = ActivationStore.open(tmp_path / "v.zarr"), ActivationStore.open(tmp_path / "local.zarr")
    rows = np.arange(8)
    assert far(made.last(4, rows), local.last(4, rows)) <= 1e-5 and not made.answer(rows).any()
    assert {body["sampling_params"]["max_tokens"] for body in asked} == {1}
    assert made.samples["finish_reason"].to_list() == ["none"] * 8


def test_entropies_of_a_few_alternatives_say_so_and_what_they_leave_out(served, tmp_path, monkeypatch):
    extract(tmp_path / "local.zarr", p_true=True)
    monkeypatch.setattr(told_by_servers, "WHOLE", 1)
    monkeypatch.setattr(told_by_servers, "TOP", 1)  # True or False is not among them: it is asked for alone
    with served() as (url, asked):
        by_vllm(tmp_path / "v.zarr", url, p_true=True)
    made, local = ActivationStore.open(tmp_path / "v.zarr"), ActivationStore.open(tmp_path / "local.zarr")
    assert made.manifest.identity["engine"]["entropies"] == "top 1 and the rest"
    assert any("prompt_logprobs" in body["sampling_params"] for body in asked)
    assert made.samples["p_true"].to_list() == pytest.approx(local.samples["p_true"].to_list(), abs=1e-5)
    for entropies, rests, whole in zip(
        made.samples["entropies"], made.samples["entropy_rests"], local.samples["entropies"], strict=True
    ):
        assert len(rests) == len(entropies) and all(0 <= rest < 1 for rest in rests)
        assert all(few <= all_of + 1e-4 for few, all_of in zip(entropies, whole, strict=True))


def test_a_stop_text_cuts_where_it_does_here(served, tmp_path):
    chain = {"max_new_tokens": 6, "stop": ("e",)}
    extract(tmp_path / "local.zarr", **chain, p_true=True)
    with served() as (url, _):
        by_vllm(tmp_path / "v.zarr", url, **chain, p_true=True)
    local = ActivationStore.open(tmp_path / "local.zarr")
    alike(ActivationStore.open(tmp_path / "v.zarr"), local)
    said, gold = local.samples["response"].to_list(), local.samples["answers"].to_list()
    assert not any("e" in text for text in said) and any("e" in answers[0] for answers in gold), "none was stopped"


def test_an_engine_that_dies_leaves_its_parts_and_the_same_command_goes_on(served, tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "PART_SAMPLES", 8)
    monkeypatch.setattr(vllm, "AHEAD", 1)
    with served(dies_after=20) as (url, _), pytest.raises(EngineError, match="EngineCore") as died:
        by_vllm(tmp_path / "v.zarr", url, limit=32)
    assert "the same command goes on" in died.value.hint
    kept = ActivationStore.open(tmp_path / "v.zarr")
    assert 0 < len(kept) < 32 and len(kept) % 8 == 0 and verify(tmp_path / "v.zarr", deep=True) == []
    with served() as (url, asked):
        again = by_vllm(tmp_path / "v.zarr", url, limit=32)
    assert again.facts["computed"] == 32 - len(kept) == len(asked) - 1  # the first tries the server
    extract(tmp_path / "local.zarr", limit=32)
    assert len(ActivationStore.open(tmp_path / "v.zarr")) == 32


def test_a_server_of_other_blocks_or_none_is_told_with_the_command_that_starts_the_right_one(served, tmp_path):
    with served((2, 3)) as (url, _), pytest.raises(InvalidInputError, match=r"runs tiny-vl@\w+, and this") as wrong:
        by_vllm(tmp_path / "v.zarr", url)
    assert "[3, 4, 6]" in wrong.value.hint and "--enable-scale-out" in wrong.value.hint
    with pytest.raises(EngineError, match="cannot be reached") as gone:
        by_vllm(tmp_path / "v.zarr", "http://127.0.0.1:9")
    assert "start it by: " in gone.value.hint and not (tmp_path / "v.zarr").exists()


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda said: {**said, "prompt_token_ids": said["prompt_token_ids"][:-1]}, "reads the prompt of sample"),
        (lambda said: {**said, "choices": [{**said["choices"][0], "token_ids": []}]}, "log-probs|vLLM server does"),
        (lambda said: {**said, "kv_transfer_params": None}, "hands no states over"),
        (lambda said: {"object": "error"}, "does not answer as a vLLM server does"),
    ],
)
def test_what_is_no_answer_is_refused(served, tmp_path, spoil, told):
    with served(change=spoil) as (url, _), pytest.raises((EngineError, UnsupportedError), match=told):
        by_vllm(tmp_path / "v.zarr", url)
    assert not (tmp_path / "v.zarr").exists()


def test_a_sample_that_a_server_refuses_is_named_and_no_rerun_is_advised(served, tmp_path):
    with (
        served(refuses=lambda body: "content_parts" in body) as (url, _),
        pytest.raises(EngineError, match=r"sample '\S+' is refused: http://\S+ answered 400: too much") as refused,
    ):
        by_vllm(tmp_path / "v.zarr", url)
    assert "leave it out" in refused.value.hint and "goes on" not in refused.value.hint


def test_what_a_died_server_is_told_with_stays_beside_what_is_kept(served, tmp_path, monkeypatch):
    (tmp_path / "other").mkdir(mode=0o700)
    monkeypatch.setattr(served_answer, "TRIAL_S", 0.01)
    with served() as (url, _), pytest.raises(EngineError, match=r"no states .* came to") as elsewhere:
        by_vllm(tmp_path / "v.zarr", url, vllm_states=tmp_path / "other")
    assert "both sides must see that folder" in elsewhere.value.hint and not (tmp_path / "v.zarr").exists()
    with served(loses_states=True) as (url, _), pytest.raises(EngineError, match="could not write states") as died:
        by_vllm(tmp_path / "v.zarr", url)
    assert "its log says why" in died.value.hint and "the same command goes on" in died.value.hint
    assert "\n" not in died.value.hint


def test_a_server_of_its_own_gets_a_folder_and_what_killed_runs_left_goes(tmp_path):
    python, states = tmp_path / "python", tmp_path / "states"
    python.write_text(
        f'#!/bin/sh\n[ "$1" = -c ] && exit 0\nstat -c %a {states}/.relope-states-*[0-9a-f].partial\nexit 3'
    )
    python.chmod(0o755)
    left = partial.beside(states / f"relope-states-{os.getuid()}")
    left.mkdir(parents=True)
    (left / "states").write_bytes(b"x")
    with pytest.raises(EngineError, match="ended at its start: exit status 3") as died:
        extract(tmp_path / "v.zarr", engine="vllm", vllm_python=str(python), vllm_states=states)
    log = Path(died.value.hint.removeprefix("see "))
    assert log.read_text() == "700\n" and list(states.iterdir()) == []
    log.unlink()
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match="cannot hold states"):
        extract(tmp_path / "v.zarr", engine="vllm", vllm_python=str(python), vllm_states=tmp_path / "file")


def test_draws_that_are_none_are_refused(served, tmp_path):
    def drawn(said):
        for choice in said["choices"]:
            for token in choice["logprobs"]["content"] if choice["logprobs"] else ():
                token["top_logprobs"].append({"token_id": 119, "logprob": token["logprob"] + 3})
        return said

    with served(change=drawn) as (url, _), pytest.raises(UnsupportedError, match=r"draws a token 3\.0 nats below"):
        by_vllm(tmp_path / "v.zarr", url, samples=2)
    assert not (tmp_path / "v.zarr").exists()


def test_classes_and_settings_that_vllm_cannot_honour_are_refused_by_name(tmp_path):
    url = {"engine": "vllm", "vllm_url": "http://127.0.0.1:9"}
    with pytest.raises(UnsupportedError, match="Phi4MultimodalForCausalLM") as refused:
        extract(tmp_path / "v.zarr", model=str(make("phi4-multimodal", tmp_path / "phi4")), **url)
    assert refused.value.hint == "drop --engine vllm"
    for given in ({}, {"vllm_url": "http://x", "vllm_python": "python"}):
        with pytest.raises(InvalidInputError, match="one of them"):
            extract(tmp_path / "v.zarr", engine="vllm", **given)
    with pytest.raises(InvalidInputError, match="is no URL"):
        extract(tmp_path / "v.zarr", engine="vllm", vllm_url="localhost")
    for given, why in (
        ({"vllm_url": "http://x", "vllm_argument": ("--tensor-parallel-size=2",)}, "for a server that is started"),
        ({"vllm_python": "python", "vllm_argument": ("--quantization=fp8",)}, "'--quantization=fp8' is no argument"),
    ):
        with pytest.raises(InvalidInputError, match=why):
            extract(tmp_path / "v.zarr", engine="vllm", **given)
    with pytest.raises(InvalidInputError, match="vllm_url is not for the engine local"):
        extract(tmp_path / "v.zarr", vllm_url="http://x")


def test_single_modules_of_a_checkpoint_are_read_alone(backbone):
    model, folder = open_skeleton("tiny-vl", "cpu", "float32", identified=True).model, locate(open_card("tiny-vl"))[0]
    load_parts("tiny-vl", model, folder, [4], DTYPES["float32"])
    read = {name: weight for name, weight in model.named_parameters() if not weight.is_meta}
    assert {name.split("language_model.")[1].partition(".")[0] for name in read} == {"norm", "layers"}
    for name, weight in read.items():
        assert weight.equal(backbone.model.get_parameter(name).cpu()), name


def test_a_model_without_weights_ends_answers_as_the_checkpoint_does(backbone):
    described = open_skeleton("tiny-vl", "cpu", "float32", identified=True)
    assert described.traits.end_ids == backbone.traits.end_ids != ()
