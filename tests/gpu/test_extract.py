"""Extraction on a GPU: the states are those of a CPU, copies outlive what they copy, and memory may run out."""

import checkpoints
import numpy as np
import pytest
import torch

from relope import steps
from relope.extract.batches import Batches
from relope.extract.data.open import open_dataset
from relope.extract.model.backbone import open_backbone
from relope.extract.model.extras import Extras
from relope.extract.model.generate import answer_batch, captures, generations
from relope.extract.model.overlap import HostCopy
from relope.spec import ExtractSpec
from relope.store import ActivationStore

LAYERS = (3, 4)


@pytest.fixture(scope="module", params=checkpoints.CLASSES)
def checkpoint(request, tmp_path_factory):
    """Name and folder of a tiny checkpoint of a class."""
    checkpoints.check_needs(request.param)
    return request.param, str(checkpoints.make(request.param, tmp_path_factory.mktemp("m") / request.param))


def answered(checkpoint, device, dtype, n_tokens=8, extras=None):
    """States, answers and the rest of six samples."""
    name, folder = checkpoint
    backbone = open_backbone(folder, device, dtype)
    samples = open_dataset("tiny").load("test", 6)
    batches = Batches(
        backbone, LAYERS, n_tokens, "float32", extras or Extras(), text_only=name in checkpoints.TEXT_ONLY
    )
    ((_, found),) = batches.answer(samples, batches.prepare(samples))
    return captures(found, LAYERS), generations(found, backbone.decode), found


def off(found, wanted):
    return np.linalg.norm(found - wanted) / np.linalg.norm(wanted)


@pytest.mark.parametrize(("dtype", "bound"), [("float32", 2e-3), ("bfloat16", 5e-2)])
def test_states_are_those_of_a_cpu(checkpoint, dtype, bound):
    """In float32 cuDNN's convolutions (patch embeddings) are TF32; bfloat16 is held against float32."""
    ours, said, _ = answered(checkpoint, "cuda", dtype)
    theirs, expected, _ = answered(checkpoint, "cpu", "float32")
    for one, other in zip(ours, theirs, strict=True):
        assert np.array_equal(one.tokens, other.tokens)
        assert all(off(one.hidden[layer], other.hidden[layer]) <= bound for layer in LAYERS)
    if dtype == "float32":
        same = [one.token_ids == other.token_ids for one, other in zip(said, expected, strict=True)]
        assert np.mean(same) >= 0.8  # one answer may turn at a tie
        for one, other in zip(said, expected, strict=True):
            if one.token_ids == other.token_ids:
                assert np.allclose(one.logprobs, other.logprobs, atol=2e-2)


def test_traces_and_p_true_are_those_of_a_cpu(checkpoint):
    extras = Extras(samples=2, p_true=True)
    _, said, ours = answered(checkpoint, "cuda", "float32", 4, extras)
    _, expected, theirs = answered(checkpoint, "cpu", "float32", 4, extras)
    same = [one.token_ids == other.token_ids for one, other in zip(said, expected, strict=True)]
    assert np.mean(same) >= 0.8  # one answer may turn at a tie, and p(True) is asked of the answer
    assert np.allclose(ours.p_true.numpy()[same], theirs.p_true.numpy()[same], atol=2e-2)
    for style in ("direct", "chain"):
        (tokens, kept), (others, _) = ours.traces[style], theirs.traces[style]
        assert tokens.numpy().shape[0] == kept.numpy().shape[0] == 12
        width = min(tokens.numpy().shape[1], others.numpy().shape[1])
        assert (tokens.numpy()[:, 0] == others.numpy()[:, 0]).mean() >= 0.8 and width >= 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int32, torch.bool])
def test_a_copy_outlives_its_source(dtype):
    """The source's memory is given to others at once, which write into it while the copy is under way."""
    copies = []
    for number in range(64):
        source = torch.full((1 << 20,), number % 2 if dtype == torch.bool else number, device="cuda").to(dtype)
        copies.append(HostCopy(source))
        del source
        torch.full((1 << 20,), 77, device="cuda").to(dtype)
    for number, copy in enumerate(copies):
        values = torch.from_numpy(copy.numpy())
        values = values.view(torch.bfloat16) if dtype == torch.bfloat16 else values
        assert (values.float() == (number % 2 if dtype == torch.bool else number)).all(), number


def test_inputs_are_pinned_and_may_be_forgotten(backbone_cuda, questions):
    batches = Batches(backbone_cuda, LAYERS, 2, "float32")
    inputs = batches.prepare(questions[:4])
    assert all(tensor.is_pinned() for tensor in inputs.values())
    moved = backbone_cuda.to_device(inputs)
    kept = {name: tensor.clone() for name, tensor in inputs.items()}
    del inputs
    again = batches.prepare(questions[4:8])  # takes the pinned memory that is free
    assert all(
        torch.equal(moved[name].cpu().to(kept[name].dtype), kept[name]) for name in ("input_ids", "image_grid_thw")
    )
    assert again


@pytest.fixture(scope="module")
def backbone_cuda():
    """The embedded small model in float32."""
    return open_backbone("tiny-vl", "cuda", "float32")


def test_memory_that_runs_out_halves_the_batch(backbone_cuda):
    samples = open_dataset("tiny").load("test", 256)
    halved = []
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    inputs = backbone_cuda.inputs(samples[:64])
    answer_batch(backbone_cuda, inputs, LAYERS, 2, "float32")  # what libraries keep is there
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    answer_batch(backbone_cuda, inputs, LAYERS, 2, "float32")
    allowed = torch.cuda.max_memory_allocated() * 1.5
    torch.cuda.empty_cache()
    batches = Batches(backbone_cuda, LAYERS, 2, "float32", halved=halved.append)
    whole = batches.prepare(samples)
    torch.cuda.set_per_process_memory_fraction(allowed / total)
    try:
        pieces = list(batches.answer(samples, whole))
        found = [capture for _, answered in pieces for capture in captures(answered, LAYERS)]
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert halved and batches.largest < 256
    assert [sample.id for piece, _ in pieces for sample in piece] == [sample.id for sample in samples]
    ((_, one),) = Batches(backbone_cuda, LAYERS, 2, "float32").answer(samples, backbone_cuda.inputs(samples))
    for ours, theirs in zip(found, captures(one, LAYERS), strict=True):
        assert off(ours.hidden[4], theirs.hidden[4]) <= 1e-3


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_same_command_gives_the_same_states(dtype, tmp_path):
    found = []
    for number in range(2):
        out = tmp_path / f"{number}.zarr"
        steps.run(
            ExtractSpec(model="tiny-vl", dataset="tiny", split=("test",), limit=60, out=out, device="cuda", dtype=dtype)
        )
        with ActivationStore.open(out) as store:
            found.append((store.last(4), store.samples["response"].to_list()))
    assert off(found[0][0], found[1][0]) <= (1e-6 if dtype == "float32" else 1e-2)
    assert np.mean([one == other for one, other in zip(found[0][1], found[1][1], strict=True)]) >= 0.98
