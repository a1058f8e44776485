"""Block replay, LoRA and the bottleneck against the streamed backbone, peft and torch."""

import copy
import dataclasses

import numpy as np
import peft
import pytest
import torch

from relope import steps
from relope.errors import InvalidInputError
from relope.extract.data.open import open_dataset
from relope.extract.model.backbone import Backbone
from relope.extract.model.streams import Streams
from relope.probes.bottleneck import Bottleneck
from relope.probes.heads import seeded
from relope.probes.lora import TARGETS, Adapter, attach, share, target_shapes
from relope.probes.protocol import block_use, make
from relope.probes.replay import BlockReplay, last_of, read_batch
from relope.spec import ExtractSpec, FitSpec
from relope.steps.reopen import open_streams
from relope.store import ActivationStore


@pytest.fixture(scope="module")
def one_batch(tmp_path_factory):
    """A store of twelve samples that were prefilled as one batch: padding is then equal everywhere."""
    path = tmp_path_factory.mktemp("runs") / "one.zarr"
    spec = ExtractSpec(
        model="tiny-vl", dataset="tiny", split=("test",), limit=12, batch_size=12, out=path, device="cpu"
    )
    steps.run(spec)
    with ActivationStore.open(path) as opened:
        yield opened


@pytest.fixture
def replay(one_batch):
    return BlockReplay.open(one_batch, 4, "cpu")


@pytest.fixture
def batch(one_batch):
    """The twelve samples, as a padded batch from the cache and by id."""
    ragged = next(one_batch.batches(3, size=12))
    assert len(set(np.diff(ragged.offsets))) > 1
    return read_batch(one_batch, ragged, "cpu", torch.float32), one_batch.samples["id"].to_list()


@pytest.fixture
def streams(backbone):
    samples = {s.id: s for split in ("train", "test") for s in open_dataset("tiny").load(split, 160)}
    return Streams(backbone, samples)


def random_adapters(block):
    """Adapters whose update is not zero."""
    generator = seeded(0)
    found = {name: Adapter(*shape, 4, 8.0, 0.0, generator) for name, shape in target_shapes(block).items()}
    for adapter in found.values():
        torch.nn.init.normal_(adapter.up, std=0.05, generator=generator)
    return found


def test_the_replayed_block_is_the_models_block(replay, backbone):
    own = backbone.blocks[3].state_dict()
    for name, tensor in replay.block.state_dict().items():
        assert torch.equal(tensor, own[name])


def test_replay_equals_streaming_exactly_at_equal_padding(replay, batch, streams, backbone):
    padded, ids = batch
    for stop in (True, False):
        streamed = streams.last_states(ids, backbone.blocks[3], 4, stop=stop)
        assert torch.equal(replay.last_states(padded, fast=False), streamed)


def test_loss_and_lora_gradients_equal_streaming_exactly(replay, batch, streams):
    padded, ids = batch
    adapters = random_adapters(replay.block)
    block = attach(replay.block, adapters)
    found = []
    for states in (
        lambda: replay.last_states(padded, block, fast=False),
        lambda: streams.last_states(ids, block, 4, stop=True),
        lambda: streams.last_states(ids, block, 4, stop=False),
    ):
        for adapter in adapters.values():
            adapter.zero_grad()
        loss = states().square().mean()
        loss.backward()
        found.append((loss.item(), {name: (a.up.grad.clone(), a.down.grad.clone()) for name, a in adapters.items()}))
    for loss, gradients in found[1:]:
        assert loss == found[0][0]
        for name, (up, down) in gradients.items():
            assert torch.equal(up, found[0][1][name][0]) and torch.equal(down, found[0][1][name][1])
            assert up.abs().max() > 0


def test_the_last_token_path_equals_the_whole_block(replay, batch):
    padded, _ = batch
    block = attach(replay.block, random_adapters(replay.block))
    fast, whole = replay.last_states(padded, block, fast=True), replay.last_states(padded, block, fast=False)
    assert (fast - whole).abs().max() < 1e-5
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in block.modules())
    assert replay.block.self_attn.config._attn_implementation == "sdpa"


def test_cached_layer_l_is_what_replay_gives(one_batch, replay, batch):
    assert np.array_equal(replay.last_states(batch[0], fast=False).numpy(), one_batch.last(4))


def test_lora_equals_peft(replay, batch):
    padded, _ = batch
    adapters = random_adapters(replay.block)
    ours = attach(replay.block, adapters)
    config = peft.LoraConfig(r=4, lora_alpha=8, target_modules=sorted({n.split(".")[-1] for n in adapters}))
    theirs = peft.inject_adapter_in_model(config, copy.deepcopy(replay.block), adapter_name="x")
    for name, adapter in adapters.items():
        layer = theirs.get_submodule(name)
        layer.lora_A["x"].weight.data.copy_(adapter.down)
        layer.lora_B["x"].weight.data.copy_(adapter.up)
    theirs.eval()
    arguments = replay.arguments(padded)
    one, two = (last_of(block(padded.hidden, **arguments)) for block in (ours, theirs))
    assert torch.equal(one, two)
    assert not torch.equal(one, replay.last_states(padded, fast=False))


def test_lora_is_on_the_seven_projections_of_one_block(replay):
    names = set(target_shapes(replay.block))
    assert {name.split(".")[-1] for name in names} == TARGETS - {"qkv_proj", "gate_up_proj"}
    assert len(names) == 7


def test_a_shared_copy_shares_weights_and_leaves_the_block_alone(replay):
    twin = share(replay.block)
    for one, two in zip(twin.parameters(), replay.block.parameters(), strict=True):
        assert one is two
    attach(replay.block, random_adapters(replay.block))
    assert not [n for n, _ in replay.block.named_modules() if "adapter" in n]


def test_generation_with_the_router_loaded_is_bit_identical(backbone, streams, questions, training):
    inputs = backbone.inputs(questions[:4])
    settings = {"max_new_tokens": 4, "do_sample": False, "output_logits": True, "return_dict_in_generate": True}
    before = backbone.model.generate(**inputs, **settings)
    block = attach(backbone.blocks[3], random_adapters(backbone.blocks[3]))
    streams.last_states(training.table["id"].to_list()[:3], block, 4, stop=True)
    after = backbone.model.generate(**inputs, **settings)
    assert torch.equal(before.sequences, after.sequences)
    assert all(torch.equal(one, two) for one, two in zip(before.logits, after.logits, strict=True))


def test_the_divergence_is_that_of_two_gaussians():
    torch.manual_seed(0)
    bottleneck = Bottleneck(12, 5)
    bottleneck.start(seeded(0))
    states = torch.randn(6, 12)
    _, divergence = bottleneck(states, None)
    mean, logvar = bottleneck.mean(states), bottleneck.logvar(states)
    posterior = torch.distributions.Normal(mean, (0.5 * logvar).exp())
    prior = torch.distributions.Normal(torch.zeros_like(mean), torch.ones_like(mean))
    assert torch.allclose(divergence, torch.distributions.kl_divergence(posterior, prior).sum(-1), atol=1e-5)


def test_noise_moves_the_code_by_its_deviation():
    bottleneck = Bottleneck(3, 2)
    bottleneck.start(seeded(0))
    states, noise = torch.randn(4, 3), torch.randn(4, 2)
    expected = bottleneck.head(bottleneck.mean(states) + (0.5 * bottleneck.logvar(states)).exp() * noise)[:, 0]
    assert torch.allclose(bottleneck(states, noise)[0], expected)


@pytest.mark.parametrize("mode", ["truncated", "full"])
def test_streamed_fits_equal_cached_fits(mode, training, testing, streams):
    """The cache was prefilled in other batches, so states differ by some 1e-6 and scores hardly more."""
    few = training.take(np.arange(60))
    settings = {"epochs": 1, "batch": 4, "lora_dropout": 0.0}
    cached = make("relope", settings).fit(few, seed=0)
    with_streams = [dataclasses.replace(e, streams=streams) for e in (few, testing)]
    streamed = make("relope", {**settings, "mode": mode}).fit(with_streams[0], seed=0)
    assert np.allclose(cached.predict_proba(testing), streamed.predict_proba(with_streams[1]), atol=1e-3)


def test_streaming_needs_a_backbone(training):
    with pytest.raises(InvalidInputError, match="mode=full runs samples through the backbone, and none is given"):
        make("relope", {"mode": "full", "epochs": 1}).fit(training, seed=0)


def test_another_layer_than_the_routers_is_refused(training, testing, tmp_path):
    make("relope", {"epochs": 1}).fit(training, seed=0).save(tmp_path)
    from relope.probes.methods.relope import Method

    with pytest.raises(InvalidInputError, match="fitted at layer 4, not 3"):
        Method.load(tmp_path).predict_proba(type(testing)(testing.store, testing.rows, None, 3))


def test_steps_open_streams_from_the_store_alone(store):
    opened = open_streams(store)
    assert opened.backbone.name == "tiny-vl" and len(opened.samples) > 1000


def test_without_lora_the_cached_layer_is_all_that_is_read(training, testing, monkeypatch, tmp_path):
    monkeypatch.setattr(BlockReplay, "open", lambda *a: pytest.fail("no block is needed"))
    router = make("relope", {"lora": False, "epochs": 8}).fit(training, seed=0)
    assert router.layers(4) == (4,) and block_use(router) == "none"
    assert not any("adapters" in name for name, _ in router.learned_.named_parameters())
    states = torch.from_numpy(testing.store.last(4, testing.rows))
    expected = router.learned_.bottleneck(states, None)[0].sigmoid().detach().numpy()
    assert np.allclose(router.predict_proba(testing), expected, atol=1e-6)
    with pytest.raises(InvalidInputError, match="it has no adapter"):
        router.export(tmp_path)


def test_an_untrained_adapter_changes_nothing(training, testing):
    """B starts at 0: with LoRA's learning rate next to nothing, heads with and without LoRA agree, but
    for the clipping, which sees the gradients of both."""
    settings = {"epochs": 2, "lora_lr": 1e-12, "lora_dropout": 0.0, "batch": 32}
    one, two = (make("relope", {**settings, "lora": lora}).fit(training, seed=0) for lora in (True, False))
    assert np.allclose(one.predict_proba(testing), two.predict_proba(testing), atol=5e-3)


def test_the_block_can_be_run_in_another_number_type(one_batch, replay, batch):
    half = BlockReplay.open(one_batch, 4, "cpu", "bfloat16")
    assert half.dtype == torch.bfloat16 and replay.dtype == torch.float32
    ragged = next(one_batch.batches(3, size=12))
    adapters = random_adapters(half.block)
    states = half.last_states(read_batch(one_batch, ragged, "cpu", half.dtype), attach(half.block, adapters))
    exact = replay.last_states(batch[0], attach(replay.block, adapters))
    assert states.dtype == torch.bfloat16 and all(a.down.dtype == torch.float32 for a in adapters.values())
    assert torch.cosine_similarity(states.float(), exact).min() > 0.999


def test_prompts_beyond_the_reach_of_longrope_run_apart(replay, batch, monkeypatch):
    padded, _ = batch
    whole = replay.last_states(padded, fast=False)
    lengths = padded.mask.sum(1)
    monkeypatch.setattr(replay, "reach", int(lengths.median()))
    kinds, own = [], replay.arguments
    monkeypatch.setattr(replay, "arguments", lambda part: (kinds.append(part.mask.sum(1)), own(part))[1])
    assert torch.allclose(replay.last_states(padded, fast=False), whole, atol=1e-5)
    assert len(kinds) == 2 and kinds[0].max() <= replay.reach < kinds[1].min()
    kinds.clear()
    monkeypatch.setattr(replay, "reach", 10_000)
    replay.last_states(padded)
    assert len(kinds) == 1


def test_streamed_prompts_beyond_the_reach_of_longrope_run_apart(streams, monkeypatch):
    backbone, ids = streams.backbone, list(streams.samples)[:7]
    widths = [int(backbone.inputs([streams.samples[name]])["input_ids"].shape[1]) for name in ids]
    bound = sorted(widths)[3]
    near = dataclasses.replace(backbone, traits=dataclasses.replace(backbone.traits, rope_bound=bound))
    whole = streams.last_states(ids, backbone.blocks[3], 4, stop=True)
    read, own = [], Backbone.to_device
    monkeypatch.setattr(Backbone, "to_device", lambda self, inputs: (read.append(inputs), own(self, inputs))[1])
    apart = dataclasses.replace(streams, backbone=near).last_states(ids, backbone.blocks[3], 4, stop=True)
    assert torch.allclose(apart, whole, atol=1e-5)
    short, long = (inputs["attention_mask"].sum(1) for inputs in read)
    assert short.max() <= bound < long.min() and len(short) + len(long) == len(ids)


def test_streamed_batches_are_small_unless_asked_for():
    batches = [
        make("relope", settings).params.batch for settings in ({}, {"mode": "full"}, {"mode": "full", "batch": 5})
    ]
    assert batches == [64, 16, 5]


def test_a_block_that_the_store_lacks_is_taken_from_the_checkpoint(tmp_path):
    path = tmp_path / "three.zarr"
    spec = ExtractSpec(
        model="tiny-vl", dataset="tiny", split=("test",), limit=40, layers=("2", "3", "4"), out=path, device="cpu"
    )
    steps.run(spec)
    assert not (path / "block_3").exists()
    asked = {"epochs": 1}
    steps.run(FitSpec(method="relope", store=path, split=("test",), layer=3, device="cpu", set=asked))
    assert torch.equal(
        BlockReplay.open(ActivationStore.open(path), 3, "cpu").block.self_attn.q_proj.weight,
        open_streams(ActivationStore.open(path), "cpu").model.get_decoder().layers[2].self_attn.q_proj.weight,
    )
