"""A store by a real vLLM server is the store that transformers would have made."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from checkpoints import make
from PIL import Image

from relope import steps
from relope.extract.model.card import locate, open_card
from relope.spec import ExtractSpec, StoreVerifySpec
from relope.store import ActivationStore, verify

pytestmark = pytest.mark.vllm
ROOT = Path(__file__).parents[2]
TIE = 1e-4
"""Nats between the two likeliest tokens below which either may be said."""


@pytest.fixture(autouse=True)
def on_cpu(monkeypatch, tmp_path_factory):
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "VLLM_CPU_KVCACHE_SPACE", "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, "1")


def extract(out, **changes):
    asked = {"model": "tiny-vl", "dataset": "tiny", "split": ("test",), "dtype": "float32", "out": out}
    return steps.run(ExtractSpec(**{**asked, **changes}))


def worst(a, b):
    return float((np.linalg.norm(a - b, axis=1) / np.linalg.norm(b, axis=1)).max())


def test_500_questions_are_answered_as_transformers_does(vllm_python, tmp_path):
    extras = {"limit": 500, "samples": 4, "trace_tokens": 8, "p_true": True}
    extract(tmp_path / "l.zarr", **extras)
    extract(tmp_path / "v.zarr", engine="vllm", vllm_python=vllm_python, **extras)
    local, made = ActivationStore.open(tmp_path / "l.zarr"), ActivationStore.open(tmp_path / "v.zarr")
    assert verify(tmp_path / "v.zarr", deep=True) == []
    assert not steps.run(StoreVerifySpec(store=str(tmp_path / "v.zarr"), against_model=100)).failed
    rows = np.arange(500)
    assert max(worst(made.last(layer, rows), local.last(layer, rows)) for layer in (3, 4)) <= 1e-5
    for ours, theirs in zip(made.batches(4, rows, size=50), local.batches(4, rows, size=50), strict=True):
        assert worst(ours.values, theirs.values) <= 1e-5
    said = [store.samples["token_ids"].to_list() for store in (made, local)]
    same = [ours == theirs for ours, theirs in zip(*said, strict=True)]
    margins = {row: _margin(local, row, *(ids[row] for ids in said)) for row in rows if not same[row]}
    assert sum(same) >= 495 and all(margin <= TIE for margin in margins.values()), margins
    equal = [row for row in rows if same[row]]
    assert worst(made.answer(rows)[equal], local.answer(rows)[equal]) <= 1e-5
    assert np.abs(made.samples["p_true"].to_numpy() - local.samples["p_true"].to_numpy())[equal].max() <= 1e-4
    for style in ("direct", "chain"):
        _same_distribution(made.samples[f"traces_{style}"].to_list(), local.samples[f"traces_{style}"].to_list())


def test_a_stop_text_ends_answers_as_by_transformers(vllm_python, tmp_path):
    """The server aborts what one has ended, and hands nothing over: the states are asked for apart."""
    stopped = {"limit": 24, "max_new_tokens": 6, "stop": ("e",)}
    extract(tmp_path / "l.zarr", **stopped)
    extract(tmp_path / "v.zarr", engine="vllm", vllm_python=vllm_python, **stopped)
    local, made = ActivationStore.open(tmp_path / "l.zarr"), ActivationStore.open(tmp_path / "v.zarr")
    rows = np.arange(24)
    assert made.samples["response"].to_list() == local.samples["response"].to_list()
    assert made.samples["token_ids"].to_list() == local.samples["token_ids"].to_list()
    assert worst(made.last(4, rows), local.last(4, rows)) <= 1e-5
    ended = local.answer(rows).any(axis=1)  # an answer without a token has no state
    assert worst(made.answer(rows)[ended], local.answer(rows)[ended]) <= 1e-5 and not made.answer(rows)[~ended].any()


def test_a_model_on_two_ranks_hands_over_what_one_does(vllm_python, tmp_path, monkeypatch):
    """Ranks on a CPU want a NUMA node each, unless their threads are bound to none."""
    monkeypatch.setenv("VLLM_CPU_OMP_THREADS_BIND", "nobind")
    asked = {"limit": 40, "max_new_tokens": 4}
    extract(tmp_path / "l.zarr", **asked)
    two = {"vllm_argument": ("--tensor-parallel-size=2", "--kv-cache-memory-bytes=268435456")}
    extract(tmp_path / "v.zarr", engine="vllm", vllm_python=vllm_python, **two, **asked)
    local, made = ActivationStore.open(tmp_path / "l.zarr"), ActivationStore.open(tmp_path / "v.zarr")
    assert made.samples["token_ids"].to_list() == local.samples["token_ids"].to_list()
    for layer in (3, 4):
        batches = (store.batches(layer, np.arange(40), size=20) for store in (made, local))
        assert all(worst(ours.values, theirs.values) <= 1e-5 for ours, theirs in zip(*batches, strict=True))


def test_a_sample_may_have_as_many_images_as_the_context_holds(vllm_python, tmp_path):
    rows = []
    for number, n_images in enumerate((1, 16, 17, 24)):
        names = [f"{number}-{place}.png" for place in range(n_images)]
        for place, name in enumerate(names):
            Image.new("RGB", (32, 32), (place * 10, 90, number * 60)).save(tmp_path / name)
        rows.append({"id": str(number), "question": "What is it?", "answer": "red", "images": names, "split": "test"})
    (tmp_path / "many.jsonl").write_text("\n".join(map(json.dumps, rows)))
    checkpoint = tmp_path / "longer"
    shutil.copytree(locate(open_card("tiny-vl"))[0], checkpoint)
    config = (checkpoint / "config.json").read_text()
    (checkpoint / "config.json").write_text(
        config.replace('"max_position_embeddings": 256', '"max_position_embeddings": 1024')
    )
    asked = {
        "model": str(checkpoint),
        "dataset": str(tmp_path / "many.jsonl"),
        "split": (),
        "layers": ("3", "4"),
        "max_new_tokens": 4,
    }
    extract(tmp_path / "l.zarr", **asked)
    extract(tmp_path / "v.zarr", engine="vllm", vllm_python=vllm_python, vllm_states=tmp_path / "states", **asked)
    local, made = ActivationStore.open(tmp_path / "l.zarr"), ActivationStore.open(tmp_path / "v.zarr")
    assert made.samples["token_ids"].to_list() == local.samples["token_ids"].to_list() and len(made) == 4
    assert worst(made.last(4, np.arange(4)), local.last(4, np.arange(4))) <= 1e-5
    assert list((tmp_path / "states").iterdir()) == []


def test_gemma3_with_images_is_extracted_as_by_transformers(vllm_python, tmp_path):
    checkpoint = make("gemma3", tmp_path / "gemma3", head_dim=32, newline_tokens=True)
    asked = {"model": str(checkpoint), "layers": ("3", "4"), "limit": 60}
    extract(tmp_path / "l.zarr", **asked)
    extract(tmp_path / "v.zarr", engine="vllm", vllm_python=vllm_python, **asked)
    local, made = ActivationStore.open(tmp_path / "l.zarr"), ActivationStore.open(tmp_path / "v.zarr")
    for layer in (3, 4):
        for ours, theirs in zip(
            *(store.batches(layer, np.arange(60), size=20) for store in (made, local)), strict=True
        ):
            assert worst(ours.values, theirs.values) <= 1e-5
    assert made.samples["token_ids"].to_list() == local.samples["token_ids"].to_list()


def _margin(local, row, ours, theirs):
    """How much likelier transformers' token is than vLLM's where two answers part: nats."""
    import torch

    from relope.steps.reopen import open_streams

    streams = open_streams(local, "cpu")
    place = next((n for n, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), min(len(ours), len(theirs)))
    inputs = streams.backbone.inputs([streams.samples[local.samples["id"][int(row)]]])
    ends = streams.backbone.traits.end_ids
    with torch.inference_mode():
        made = streams.backbone.model.generate(
            **inputs, max_new_tokens=place + 1, do_sample=False, output_logits=True, return_dict_in_generate=True
        )
    logits = made.logits[place][0]
    tokens = [ids[place] if place < len(ids) else ends[0] for ids in (theirs, ours)]
    return float(logits[tokens[0]] - logits[tokens[1]])


def _same_distribution(made, local):
    """The share of draws that are the most usual one of their sample is the same, within four standard errors."""
    shares = []
    for traces in (made, local):
        agreed = [Counter(drawn).most_common(1)[0][1] / len(drawn) for drawn in traces]
        shares.append((np.mean(agreed), np.std(agreed) / len(agreed) ** 0.5))
    (a, se_a), (b, se_b) = shares
    assert abs(a - b) <= 4 * (se_a**2 + se_b**2) ** 0.5, shares


def test_an_engine_killed_in_mid_run_leaves_its_parts_and_the_same_command_goes_on(vllm_python, tmp_path):
    out = tmp_path / "v.zarr"
    code = (
        "import sys; from relope import steps; from relope.extract import plan; from relope.spec import ExtractSpec;"
        "plan.PART_SAMPLES = 32;"
        "steps.run(ExtractSpec(model='tiny-vl', dataset='tiny', split=('test',), limit=1024, batch_size=8,"
        "out=sys.argv[1], engine='vllm', vllm_python=sys.argv[2], dtype='float32'))"
    )
    command = [sys.executable, "-c", code, str(out), vllm_python]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    until = time.monotonic() + 400
    while process.poll() is None and time.monotonic() < until and not list(out.glob("parts/[0-9a-f]*/COMMIT.json")):
        time.sleep(0.02)
    for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
        os.killpg(int(child), signal.SIGKILL)
    said = process.communicate(timeout=120)[1]
    assert process.returncode != 0 and "EngineError" in said, said[-400:]
    kept = len(ActivationStore.open(out))
    assert 0 < kept < 1024 and kept % 32 == 0 and verify(out, deep=True) == []
    assert subprocess.run(command, env=environment, timeout=500, check=False).returncode == 0
    assert len(ActivationStore.open(out)) == 1024 and verify(out, deep=True) == []
