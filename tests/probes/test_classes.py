"""ReLope on nine real model classes: cached, truncated and full are one computation, to the bit."""

import dataclasses
from types import SimpleNamespace
from unittest import mock

import checkpoints
import numpy as np
import peft
import pytest
import torch

from relope import steps
from relope.errors import NotFoundError, UnsupportedError
from relope.extract.data.open import open_dataset
from relope.extract.model.backbone import open_backbone
from relope.extract.model.streams import Streams
from relope.extract.recipe import save_block
from relope.probes.examples import Examples
from relope.probes.heads import seeded
from relope.probes.lora import Adapter, attach, module_name, target_shapes
from relope.probes.protocol import make
from relope.probes.replay import BlockReplay, read_batch
from relope.spec import ExtractSpec
from relope.store import ActivationStore, block_folder

LAYER, N = 4, 6
SEVEN = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
FUSED = {"qkv_proj", "o_proj", "gate_up_proj", "down_proj"}


@pytest.fixture(scope="module", params=checkpoints.CLASSES)
def kind(request, tmp_path_factory):
    """A model of one class, and a store of six samples that it prefilled as one batch."""
    folder = tmp_path_factory.mktemp(request.param)
    return opened(request.param, checkpoints.make(request.param, folder / "model"), folder / "one.zarr")


def opened(name, model, path):
    backbone = open_backbone(str(model), "cpu", "float32")
    if getattr(backbone.processor, "chat_template", "") is None:
        backbone.processor.chat_template = backbone.processor.tokenizer.chat_template
    text_only = name in checkpoints.TEXT_ONLY
    spec = ExtractSpec(
        model=str(model),
        dataset="tiny",
        split=("test",),
        limit=N,
        batch_size=N,
        layers=("3", "4"),
        out=path,
        device="cpu",
        max_new_tokens=2,
        text_only=text_only,
    )
    with mock.patch("relope.extract.model.backbone.open_backbone", return_value=backbone):
        steps.run(spec)
    store = ActivationStore.open(path)
    samples = {sample.id: sample for sample in open_dataset("tiny").load("test", N)}
    ragged = next(store.batches(LAYER - 1, size=N))
    assert len(set(np.diff(ragged.offsets))) > 1  # there is padding
    return SimpleNamespace(
        name=name,
        backbone=backbone,
        store=store,
        streams=Streams(backbone, samples, text_only),
        batch=read_batch(store, ragged, "cpu", torch.float32),
        ids=store.samples["id"].to_list(),
        replay=BlockReplay.open(store, LAYER, "cpu"),
    )


def random_adapters(block):
    """Adapters whose update is not zero."""
    generator = seeded(0)
    found = {name: Adapter(*shape, 4, 8.0, 0.0, generator) for name, shape in target_shapes(block).items()}
    for adapter in found.values():
        torch.nn.init.normal_(adapter.up, std=0.05, generator=generator)
    return found


def gradients(states, adapters):
    for adapter in adapters.values():
        adapter.zero_grad()
    loss = states.square().mean()
    loss.backward()
    return loss.detach(), {f"{n}.{side}": getattr(a, side).grad for n, a in adapters.items() for side in ("down", "up")}


def test_cached_truncated_and_full_are_equal_to_the_bit(kind):
    adapters = random_adapters(kind.replay.block)
    block = attach(kind.replay.block, adapters)
    loss, found = gradients(kind.replay.last_states(kind.batch, block, fast=False), adapters)
    for stop in (True, False):
        streamed, others = gradients(kind.streams.last_states(kind.ids, block, LAYER, stop=stop), adapters)
        assert torch.equal(streamed, loss)
        assert len(found) == 2 * len(adapters)
        for name, gradient in found.items():
            assert torch.equal(gradient, others[name]), name
            assert gradient.abs().max() > 0


def test_the_replayed_block_gives_the_stored_layer(kind):
    assert np.array_equal(kind.replay.last_states(kind.batch, fast=False).numpy(), kind.store.last(LAYER))


def test_the_last_token_path_equals_the_whole_block(kind):
    adapters = random_adapters(kind.replay.block)
    block = attach(kind.replay.block, adapters)
    fast, whole = (kind.replay.last_states(kind.batch, block, fast=fast) for fast in (True, False))
    assert (fast - whole).abs().max() <= 1e-5
    (_, one), (_, two) = (gradients(states, adapters) for states in (fast, whole))
    assert all(torch.allclose(one[name], two[name], atol=1e-5, rtol=1e-3) for name in one)


def test_lora_is_on_the_projections_of_one_decoder_block_and_nothing_else(kind):
    block = attach(kind.backbone.blocks[LAYER - 1], random_adapters(kind.replay.block))
    names = {name for name, part in block.named_modules() if isinstance(part, Adapter)}
    assert {name.split(".")[-2] for name in names} == (FUSED if kind.name == "phi4-multimodal" else SEVEN)
    assert len(names) == (4 if kind.name == "phi4-multimodal" else 7)
    assert all(p.dtype == torch.float32 for a in block.modules() if isinstance(a, Adapter) for p in a.parameters())
    assert [name for name, p in block.named_parameters() if p.requires_grad] == [
        name for name, _ in block.named_parameters() if ".adapter." in name
    ]
    assert not any(isinstance(part, Adapter) for part in kind.backbone.model.modules())
    place = module_name(kind.backbone.model, LAYER)
    assert kind.backbone.model.get_submodule(place) is kind.backbone.blocks[LAYER - 1]
    assert "vision" not in place and place == module_name(kind.replay.skeleton, LAYER)


def test_generation_with_a_router_loaded_is_identical_to_the_bit(kind):
    inputs = kind.backbone.inputs(list(kind.streams.samples.values())[:3], kind.streams.text_only)
    asked = {"max_new_tokens": 3, "do_sample": False, "output_logits": True, "return_dict_in_generate": True}
    before = kind.backbone.model.generate(**inputs, **asked)
    block = attach(kind.backbone.blocks[LAYER - 1], random_adapters(kind.backbone.blocks[LAYER - 1]))
    kind.streams.last_states(kind.ids[:3], block, LAYER, stop=True)
    after = kind.backbone.model.generate(**inputs, **asked)
    assert torch.equal(before.sequences, after.sequences)
    assert all(torch.equal(one, two) for one, two in zip(before.logits, after.logits, strict=True))


def fitted(kind, **settings):
    """A router fitted on the six samples, its LoRA weights then made large enough to matter."""
    labels = np.arange(N) % 3 > 0
    examples = Examples(kind.store, np.arange(N), labels, LAYER, kind.streams)
    found = make("relope", {"epochs": 1, "batch": 3, "inner_share": 0.4, **settings}).fit(examples, seed=0)
    generator = seeded(1)
    for adapter in found.learned_.named_adapters().values():
        torch.nn.init.normal_(adapter.up, std=0.05, generator=generator)
    return found, dataclasses.replace(examples, correct=None)


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")  # peft asks transformers for it
def test_peft_loads_the_export_and_gives_the_same_scores(kind, tmp_path):
    router, examples = fitted(kind)
    router.export(tmp_path / "adapter")
    model = peft.PeftModel.from_pretrained(
        open_backbone(kind.backbone.name, "cpu", "float32").model, tmp_path / "adapter"
    )
    block = model.get_base_model().get_decoder().layers[LAYER - 1]
    wrapped = [name for name, _ in model.named_parameters() if "lora_" in name]
    assert len(wrapped) == 2 * len(router.shape_["linears"])
    with torch.no_grad():
        states = kind.streams.last_states(kind.ids, block, LAYER, stop=True)
        ours = kind.replay.last_states(kind.batch, router.adapted_, fast=False)
        assert torch.equal(states, ours)
        assert not torch.equal(ours, kind.replay.last_states(kind.batch, fast=False))
        scores = router.learned_.bottleneck(states, None)[0].sigmoid().numpy()
    assert np.allclose(scores, router.predict_proba(examples), atol=1e-5)


def test_streamed_routers_need_no_block_in_the_store(kind, tmp_path):
    bare = SimpleNamespace(**{**vars(kind), "store": kind.store})
    with mock.patch.object(BlockReplay, "open", side_effect=NotFoundError("no block")):
        router, examples = fitted(bare, mode="truncated")
        router.save(tmp_path)
        again = type(router).load(tmp_path)
        assert np.array_equal(again.predict_proba(examples), router.predict_proba(examples))
    full = make("relope", {**router.params.model_dump(), "mode": "full"})
    full.shape_ = router.shape_
    full._assemble(0)
    full.learned_.load_state_dict(router.learned_.state_dict())
    assert np.array_equal(full.predict_proba(examples), router.predict_proba(examples))


@pytest.fixture
def gemma4():
    """A Gemma4 of random weights, with as much of a backbone around it as is needed here."""
    import transformers

    text = {**checkpoints.TEXT, "num_hidden_layers": 6, "vocab_size": 64, "head_dim": 16, "num_kv_shared_layers": 0}
    shared = {"vocab_size_per_layer_input": 64, "hidden_size_per_layer_input": 8}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = transformers.Gemma4ForCausalLM(transformers.Gemma4TextConfig(**text, **shared)).eval()
    tokens = {"input_ids": torch.tensor([[0, 5, 6, 7], [8, 9, 10, 11]])}
    tokens["attention_mask"] = (tokens["input_ids"] > 0).long()
    return SimpleNamespace(
        model=model.requires_grad_(False),
        blocks=model.get_decoder().layers,
        identity={"attention": "sdpa"},
        traits=SimpleNamespace(quantized=False, derives_positions=False, keeps_rope_deltas=False, rope_bound=None),
        inputs=lambda samples, text_only: dict(tokens),
        to_device=lambda inputs: inputs,
    )


def test_gemma4_is_refused_from_the_cache_and_streams(gemma4, tmp_path):
    save_block(gemma4, tmp_path, (3, 4))
    manifest = SimpleNamespace(token_columns=())
    store = SimpleNamespace(path=tmp_path, manifest=manifest, block_folder=lambda layer: block_folder(tmp_path, layer))
    with pytest.raises(UnsupportedError, match=r"gemma4.* cannot be replayed from the cache") as caught:
        BlockReplay.open(store, LAYER, "cpu")
    assert "--set mode=truncated" in caught.value.hint
    adapters = random_adapters(gemma4.blocks[LAYER - 1])
    block = attach(gemma4.blocks[LAYER - 1], adapters)
    streams = Streams(gemma4, {"a": None, "b": None})
    (one, first), (two, second) = (
        gradients(streams.last_states(["a", "b"], block, LAYER, stop=stop), adapters) for stop in (True, False)
    )
    assert torch.equal(one, two) and all(torch.equal(first[name], second[name]) for name in first)
