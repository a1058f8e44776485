"""Fits on a GPU: the three modes of relope are one computation, and routers are worth the same elsewhere."""

import dataclasses

import checkpoints
import numpy as np
import pytest
import torch
from made_traces import add_traces

from relope import registry, steps
from relope.extract.data.open import open_dataset
from relope.extract.model.backbone import open_backbone
from relope.extract.model.streams import Streams
from relope.probes.examples import Examples
from relope.probes.heads import seeded
from relope.probes.lora import Adapter, attach, target_shapes
from relope.probes.protocol import make, method_class
from relope.probes.replay import BlockReplay, read_batch
from relope.spec import ExtractSpec
from relope.store import ActivationStore
from relope.store.grades import labelled, parsed_answers

LAYER, N = 4, 6
METHODS = registry.names("methods")
NETWORKS = [name for name in METHODS if "epochs" in method_class(name).Params.model_fields or name == "fusion"]


@pytest.fixture(scope="module", params=checkpoints.CLASSES)
def kind(request):
    checkpoints.check_needs(request.param)
    return request.param


def gradients(states, adapters):
    for adapter in adapters.values():
        adapter.zero_grad()
    loss = states.float().square().mean()
    loss.backward()
    return float(loss.detach()), {name: adapter.up.grad.clone() for name, adapter in adapters.items()}


@pytest.mark.parametrize(("dtype", "bound"), [("float32", 1e-4), ("bfloat16", 3e-2)])
def test_cached_truncated_and_full_are_one_computation(kind, dtype, bound, tmp_path):
    text_only = kind in checkpoints.TEXT_ONLY
    model = str(checkpoints.make(kind, tmp_path / "model"))
    spec = ExtractSpec(
        model=model, dataset="tiny", split=("test",), limit=N, batch_size=N, layers=("3", "4"), out=tmp_path / "x.zarr",
        device="cuda", dtype=dtype, max_new_tokens=2, text_only=text_only,
    )  # fmt: skip
    steps.run(spec)
    backbone = open_backbone(model, "cuda", dtype)
    samples = {sample.id: sample for sample in open_dataset("tiny").load("test", N)}
    with ActivationStore.open(tmp_path / "x.zarr") as store:
        replay = BlockReplay.open(store, LAYER, "cuda")
        batch = read_batch(store, next(store.batches(LAYER - 1, size=N)), "cuda", replay.dtype)
        generator = seeded(0)
        adapters = {
            name: Adapter(*shape, 4, 8.0, 0.0, generator) for name, shape in target_shapes(replay.block).items()
        }
        for adapter in adapters.values():
            torch.nn.init.normal_(adapter.up, std=0.05, generator=generator)
            adapter.to("cuda")
        block = attach(replay.block, adapters)
        streams, ids = Streams(backbone, samples, text_only), store.samples["id"].to_list()
        runs = {
            "truncated": lambda: streams.last_states(ids, block, LAYER, stop=True),
            "full": lambda: streams.last_states(ids, block, LAYER, stop=False),
            "whole block": lambda: replay.last_states(batch, block, fast=False),
            "last token": lambda: replay.last_states(batch, block, fast=True),
        }
        found = {name: gradients(run(), adapters) for name, run in runs.items()}
        plain = replay.last_states(batch, fast=False).float().cpu().numpy()
        assert np.linalg.norm(plain - store.last(LAYER)) <= bound * np.linalg.norm(plain)
    loss, wanted = found["truncated"]
    for name, (other, grads) in found.items():
        assert abs(other - loss) <= bound * abs(loss), name
        for leaf, gradient in grads.items():
            assert (gradient - wanted[leaf]).norm() <= bound * wanted[leaf].norm() + 1e-12, (name, leaf)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A graded store that was made on the GPU, in bfloat16, with everything that any method reads."""
    path = tmp_path_factory.mktemp("runs") / "tiny.zarr"
    for split, limit in (("train", 160), ("test", 80)):
        steps.run(ExtractSpec(model="tiny-vl", dataset="tiny", split=(split,), limit=limit, out=path, device="cuda"))
    add_traces(path)
    with ActivationStore.open(path) as opened:
        yield opened


def of(store, split, device):
    rows, correct = labelled(store, (split,), None)
    return Examples(store, rows, correct, 4, device=device, grades=parsed_answers(store, rows, None))


@pytest.mark.parametrize("name", METHODS)
def test_a_router_of_a_gpu_gives_the_same_scores_on_a_cpu(name, store, tmp_path):
    settings = {"epochs": 3} if name in NETWORKS else {}
    fitted = make(name, settings).fit(of(store, "train", "cuda"), seed=0)
    ours = fitted.predict_proba(of(store, "test", "cuda"))
    fitted.save(tmp_path)
    theirs = type(fitted).load(tmp_path).predict_proba(of(store, "test", "cpu"))
    assert np.isfinite(ours).all() and np.abs(ours - theirs).max() <= 2e-2  # block l is bfloat16


@pytest.mark.parametrize("name", ["probe", "attention-probe", "relope"])
def test_a_fit_of_a_gpu_is_near_that_of_a_cpu(name, store):
    scores = [
        make(name, {"epochs": 3, "patience": 3, **({"lora_dropout": 0.0} if name == "relope" else {})})
        .fit(of(store, "train", device), seed=0)
        .predict_proba(of(store, "test", device))
        for device in ("cuda", "cpu")
    ]
    assert np.corrcoef(*scores)[0, 1] >= 0.98


@pytest.mark.parametrize("name", ["probe", "attention-probe", "relope"])
def test_a_killed_fit_goes_on(name, store, tmp_path):
    class Killed(Exception):
        pass

    def kill(done, total):
        if done == 2:
            raise Killed

    settings = {"epochs": 4, "patience": 4}
    whole = make(name, settings).fit(of(store, "train", "cuda"), seed=0)
    examples = dataclasses.replace(of(store, "train", "cuda"), state=tmp_path / "state.safetensors")
    with pytest.raises(Killed):
        make(name, settings).fit(examples, seed=0, progress=kill)
    again = make(name, settings).fit(examples, seed=0)
    assert np.allclose(again.history_.loss, whole.history_.loss, rtol=1e-2)
    assert len(again.history_.loss) == len(whole.history_.loss)
