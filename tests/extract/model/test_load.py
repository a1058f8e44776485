"""Models by name, hub id and folder: what is recorded, and what is refused."""

import json
from dataclasses import replace
from types import SimpleNamespace

import huggingface_hub
import pytest
import torch
from checkpoints import make
from safetensors.torch import load_file, save_file
from torch import nn
from typer.testing import CliRunner

from relope import registry
from relope.cli import app
from relope.errors import InvalidInputError, NotFoundError, UnsupportedError
from relope.extract.model import load as loading
from relope.extract.model.backbone import open_backbone, open_skeleton
from relope.extract.model.card import open_card
from relope.extract.model.generate import answer_batch, captures
from relope.extract.recipe import save_block
from relope.extract.selfcheck import check_padding
from relope.store import ActivationStore


@pytest.fixture
def hub(monkeypatch):
    """Let hub ids resolve to folders; ``asked`` keeps what was asked for."""
    found = SimpleNamespace(folders={}, asked=[])

    def snapshot(source, **how):
        found.asked.append((source, how))
        return str(found.folders[source])

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    return found


def extract(*arguments):
    return CliRunner().invoke(app, ["extract", *map(str, arguments)])


def test_gemma3_12b_by_name_with_its_48_blocks(hub, tmp_path):
    folder = make("gemma3", tmp_path / "snapshots" / "0123abcd", blocks=48)
    hub.folders["google/gemma-3-12b-it"] = folder
    out = tmp_path / "x.zarr"
    asked = ("--layers", "23,24", "--dataset", "tiny", "--split", "test", "--limit", "1", "--out", out)
    result = extract("--model", "gemma3-12b", *asked)
    assert result.exit_code == 0, result.output
    with ActivationStore.open(out) as store:
        assert store.layers == (23, 24) and store.manifest.recorded["revision"] == "0123abcd"
        assert store.manifest.recorded["source"] == "google/gemma-3-12b-it"
        assert (out / "block_24" / "block.safetensors").is_file()
        by_name = store.recipe_id
    local = tmp_path / "local.zarr"
    assert extract("--model", folder, "--layers", "0.479,0.5", *asked[2:-1], local).exit_code == 0
    assert ActivationStore.open(local).recipe_id == by_name, "a hub model and its local copy agree"
    assert extract("--model", "gemma3-12b", "--layers", "49", *asked[2:-1], tmp_path / "y").exit_code == 2


def test_the_papers_models_have_cards():
    names = {"qwen2.5-vl-7b": (28, 16), "gemma3-12b": (48, 24), "phi4-multimodal": (32, 16)}
    assert names.keys() <= set(registry.names("backbones"))
    for name, (blocks, layer) in names.items():
        card = open_card(name)
        assert (card.n_blocks, card.layer) == (blocks, layer)
        assert open_card(card.source) is card, "the hub id means the same as the name"


def test_qwen_gets_its_pixel_budget(hub, tmp_path):
    hub.folders["Qwen/Qwen2.5-VL-7B-Instruct"] = make("qwen2.5-vl", tmp_path / "q")
    named, local = open_backbone("qwen2.5-vl-7b", "cpu"), open_backbone(str(tmp_path / "q"), "cpu")
    size = named.processor.image_processor.size
    assert (size["shortest_edge"], size["longest_edge"]) == (256 * 784, 1280 * 784)
    assert named.identity["pixels"] == [256 * 784, 1280 * 784] and "pixels" not in local.identity


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_phi4_has_its_vision_lora_merged(hub, tmp_path):
    from peft import LoraConfig, get_peft_model

    folder = make("phi4-multimodal", tmp_path / "phi")
    hub.folders["microsoft/Phi-4-multimodal-instruct"] = folder
    with pytest.raises(NotFoundError, match=r"vision-lora lacks adapter_config\.json"):
        open_backbone("phi4-multimodal", "cpu")
    plain = open_backbone(str(folder), "cpu")
    before = plain.blocks[2].mlp.down_proj.weight.clone()
    config = LoraConfig(r=2, lora_alpha=4, target_modules=r"model\.layers.*down_proj", init_lora_weights=False)
    adapted = get_peft_model(plain.model, config)
    parts = adapted.base_model.model.model.layers[2].mlp.down_proj
    change = 2.0 * parts.lora_B["default"].weight @ parts.lora_A["default"].weight
    adapted.save_pretrained(folder / "vision-lora")
    merged = open_backbone("phi4-multimodal", "cpu")
    assert torch.allclose(merged.blocks[2].mlp.down_proj.weight, before + change, atol=1e-6)
    assert hub.asked[-1][1]["revision"] == "refs/pr/70" and "adapter_files" in merged.identity
    assert not any("lora" in name for name, _ in merged.model.named_parameters())
    towers = [m for m in merged.model.modules() if type(m).__name__ == "Phi4MultimodalVisionAttention"]
    assert towers and not any(tower.is_causal for tower in towers)
    assert merged.traits.rope_bound == 4096 and merged.follow_up("Sure?").endswith("Sure?<|end|><|assistant|>")


def test_a_skeleton_needs_no_weights(hub, tmp_path, questions):
    folder = make("gemma3", tmp_path / "g")
    (folder / "model.safetensors").unlink()
    hub.folders["owner/model"] = folder
    skeleton = open_skeleton("owner/model", "cpu")
    assert "*.safetensors" not in hub.asked[0][1]["allow_patterns"]
    assert (len(skeleton.blocks), skeleton.hidden_size, str(skeleton.dtype)) == (6, 64, "torch.float32")
    assert skeleton.inputs(questions[:2])["input_ids"].shape[0] == 2


def config_only(folder, **config):
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    return str(folder)


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (
            "403 Client Error. (Request ID: Root=1-2)\n\nCannot access gated repo for url https://x.\nAsk for access.",
            "403 Client Error: Cannot access gated repo for url https://x.",
        ),
        (
            "404 Client Error. (Request ID: Root=1-2)\n\nRepository Not Found for url: https://x.",
            "404 Client Error: Repository Not Found for url: https://x.",
        ),
        ("offline\nmore", "offline"),
        ("", "OSError"),
    ],
)
def test_a_gated_model_and_an_absent_one_are_told_apart(monkeypatch, said, shown):
    def refuse(*args, **how):
        raise OSError(said)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(NotFoundError) as error:
        open_backbone("gemma3-12b", "cpu")
    assert str(error.value) == f"cannot fetch model 'google/gemma-3-12b-it': {shown}"
    assert "accept its licence" in error.value.hint


def test_names_and_layers_are_looked_at_before_anything_is_fetched(hub, tmp_path):
    for wrong, says in ((("--layers", "49"), "has 48 blocks"), (("--grader", "exactly"), "unknown grader")):
        result = extract("--model", "gemma3-12b", "--dataset", "aokvqa", *wrong, "--out", tmp_path / "x.zarr")
        assert result.exit_code == 2 and says in result.output and not hub.asked
    assert not (tmp_path / "x.zarr").exists()


def test_incomplete_checkpoints_are_refused(tmp_path):
    folder = make("qwen2.5-vl", tmp_path / "q")
    whole = (folder / "model.safetensors").read_bytes()
    weights = load_file(folder / "model.safetensors")
    lost = next(name for name in weights if name.endswith("layers.2.mlp.up_proj.weight"))
    save_file(
        {name: held for name, held in weights.items() if name != lost},
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )
    with pytest.raises(UnsupportedError, match=r"lack 1 of its weights .*layers\.2\.mlp\.up_proj"):
        open_backbone(str(folder), "cpu")
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UnsupportedError, match="cannot load model"):
        open_backbone(str(folder), "cpu")


def test_weights_that_are_no_safetensors_are_refused(tmp_path):
    folder = make("llama", tmp_path / "l")
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(UnsupportedError, match=r"cannot load model .*no file named model\.safetensors"):
        open_backbone(str(folder), "cpu")


def test_other_kinds_of_devices_are_refused():
    for name in ("mps", "meta", "xla:0"):
        with pytest.raises(InvalidInputError, match="auto, cpu, cuda or cuda:0"):
            open_backbone("tiny-vl", name)


def test_a_block_that_is_not_in_memory_is_not_kept(backbone, tmp_path):
    skeleton = open_skeleton("tiny-vl", "cpu")
    save_block(skeleton, tmp_path, (3, 4))
    assert not list(tmp_path.iterdir())
    save_block(backbone, tmp_path, (3, 4))
    assert (tmp_path / "block_4" / "replay.json").is_file()


def test_weights_that_do_not_fit_into_memory(monkeypatch):
    def full(self, *args, **rest):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(nn.Module, "to", full)
    with pytest.raises(InvalidInputError, match="does not fit into the memory of cpu") as error:
        open_backbone("tiny-vl", "cpu")
    assert "--quantize 4bit" in error.value.hint


def test_what_is_refused(tmp_path):
    nano = config_only(tmp_path / "n", model_type="gemma3n", architectures=["Gemma3nForConditionalGeneration"])
    with pytest.raises(UnsupportedError, match="fourth dimension"):
        open_backbone(nano, "cpu")
    coder = config_only(tmp_path / "t", model_type="t5", architectures=["T5ForConditionalGeneration"])
    with pytest.raises(UnsupportedError, match="encoder-decoder"):
        open_backbone(coder, "cpu")
    remote = config_only(tmp_path / "r", model_type="mystery", auto_map={"AutoModel": "evil.Model"})
    with pytest.raises(UnsupportedError, match="never run"):
        open_backbone(remote, "cpu")


@pytest.mark.parametrize("missing", ["layers", "norm"])
def test_a_decoder_without_what_the_hooks_need_is_refused(missing):
    decoder = nn.Module()
    for name in {"layers", "norm"} - {missing}:
        setattr(decoder, name, nn.ModuleList([nn.Identity()]) if name == "layers" else nn.Identity())
    with pytest.raises(UnsupportedError, match=missing):
        loading._check_structure("x", SimpleNamespace(get_decoder=lambda: decoder))
    with pytest.raises(UnsupportedError, match="layers"):
        loading._check_structure("x", nn.Linear(1, 1))


def test_states_of_another_shape_are_refused(backbone, questions, monkeypatch):
    block = backbone.blocks[3]
    hook = block.register_forward_hook(lambda m, args, out: (out[0] if isinstance(out, tuple) else out)[..., None, :])
    with pytest.raises(UnsupportedError, match=r"layer 4 gives states \(2, \d+, 1, 128\)"):
        answer_batch(backbone, backbone.inputs(questions[:2]), (3, 4), 0, "float32")
    hook.remove()


def test_a_model_that_reads_padding_is_refused(backbone):
    check_padding(backbone, (3, 4))

    def leak(module, args, kwargs):
        """What a recurrent block does: every token sees all that stand left of it, padding too."""
        return ((args[0].cumsum(1)), *args[1:]), kwargs

    hook = backbone.blocks[1].register_forward_pre_hook(leak, with_kwargs=True)
    try:
        with pytest.raises(UnsupportedError, match="padding changes the states of layer 3"):
            check_padding(backbone, (3, 4))
    finally:
        hook.remove()


@pytest.mark.parametrize("name", ["qwen2.5-vl", "qwen3-vl", "gemma3"])
def test_missing_token_types_are_an_error(name, tmp_path, questions):
    opened = open_backbone(str(make(name, tmp_path / name)), "cpu")

    class Forgetful:
        def __init__(self, processor):
            self.own = processor

        def __getattr__(self, key):
            return getattr(self.own, key)

        def __call__(self, **given):
            return {k: v for k, v in self.own(**given).items() if not k.endswith("token_type_ids")}

    broken = replace(opened, processor=Forgetful(opened.processor))
    with pytest.raises(UnsupportedError, match="token_type_ids, without which"):
        broken.inputs(questions[:2])


def test_images_for_a_text_only_model(tmp_path, questions):
    llama = open_backbone(str(make("llama", tmp_path / "l")), "cpu")
    with pytest.raises(UnsupportedError, match="text-only but the samples have images"):
        llama.inputs(questions[:2])


def test_quantization_says_what_it_lacks(monkeypatch):
    with pytest.raises(InvalidInputError, match="bitsandbytes, which is not installed"):
        open_backbone("tiny-vl", "cpu", quantize="4bit")
    monkeypatch.setattr(loading.importlib.util, "find_spec", lambda name: object())
    with pytest.raises(InvalidInputError, match="need a CUDA device"):
        open_backbone("tiny-vl", "cpu", quantize="8bit")
    with pytest.raises(InvalidInputError, match="vision-lora merged"):
        open_backbone("phi4-multimodal", "cpu", quantize="4bit")


def test_device_map_spreads_the_blocks(tmp_path, questions):
    folder = make("qwen2.5-vl", tmp_path / "q")
    spread = open_backbone(str(folder), "cpu", spread=True)
    plain = open_backbone(str(folder), "cpu")
    assert spread.recorded["device"] == "all" and spread.identity == plain.identity
    one, two = (answer_batch(b, b.inputs(questions[:3]), (3, 4), 2, "float32") for b in (spread, plain))
    for mine, other in zip(captures(one, (3, 4)), captures(two, (3, 4)), strict=True):
        assert (mine.hidden[4] == other.hidden[4]).all()


def test_a_model_described_without_weights_has_the_identity_of_the_loaded_one(tmp_path):
    folder = make("qwen3-vl", tmp_path / "m")
    for attention, template in (("eager", ""), ("sdpa", "{{ messages[0]['content'] }}")):
        loaded = open_backbone(str(folder), "cpu", "bfloat16", attention, chat_template=template)
        described = open_skeleton(str(folder), "cpu", "bfloat16", template, attention=attention, identified=True)
        assert described.identity == loaded.identity and described.traits == loaded.traits
        assert {**described.recorded, "device": "cpu"} == loaded.recorded
        assert all(parameter.is_meta for parameter in described.model.parameters())
    quantized = open_skeleton("tiny-vl", "cpu", "float32", quantize="4bit", identified=True)
    assert quantized.identity["quantize"] == "4bit", "what this machine could not load is another's to run"
