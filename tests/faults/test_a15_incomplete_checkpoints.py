"""A15: a checkpoint that lacks weights is refused, wherever they are missing; transformers would make them up."""

import json
import re
import shutil

import pytest
import torch
import transformers as tf
from checkpoints import CLASSES, make
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from relope.cli import app
from relope.errors import UnsupportedError
from relope.extract.model.backbone import open_backbone

GAPS = [
    *(
        (name, part)
        for name, parts in {
            "qwen2.5-vl": ("lm_head", "visual.merger", "visual.blocks.0.", "visual.patch_embed", "model.norm"),
            "qwen3-vl": ("lm_head", "visual.merger", "deepstack_merger_list.1", "visual.blocks.0.", "pos_embed"),
            "gemma3": ("lm_head", "multi_modal_projector", "vision_tower.encoder.layers.0.", "embed_tokens"),
            "phi4-multimodal": ("lm_head", "img_projection_up", "img_processor.encoder.layers.0.", "layers.3."),
            "llava-onevision": ("lm_head", "multi_modal_projector", "image_newline", "vision_tower.encoder.layers.0."),
            "internvl": ("embed_tokens", "multi_modal_projector", "vision_tower.encoder.layer.0."),
            "smolvlm": ("lm_head", "connector", "vision_model.encoder.layers.0."),
            "llama": ("lm_head", "embed_tokens", "norm", "layers.5.mlp.down_proj"),
            "gemma3-text": ("lm_head", "post_feedforward_layernorm"),
        }.items()
        for part in parts
    )
]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Sound checkpoints by the name of their class, made when they are first asked for."""
    folder, made = tmp_path_factory.mktemp("whole"), {}

    def of(name):
        return made.setdefault(name, make(name, folder / name) if name not in made else None)

    return of


@pytest.fixture
def changed(whole, tmp_path):
    """Return the folder of a class's checkpoint whose weights a function has changed."""

    def of(name, change, **config):
        folder = tmp_path / "changed"
        shutil.copytree(whole(name), folder)
        held = change(load_file(folder / "model.safetensors"))
        save_file(held, folder / "model.safetensors", metadata={"format": "pt"})
        said = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**said, **config}))
        return str(folder)

    return of


def without(part):
    def change(weights):
        kept = {key: value for key, value in weights.items() if part not in key}
        assert len(kept) < len(weights), f"there is no {part} to take away"
        return kept

    return change


@pytest.mark.parametrize("name", CLASSES)
def test_a15_a_whole_checkpoint_is_opened(name, whole):
    assert open_backbone(str(whole(name)), "cpu", "float32").blocks


@pytest.mark.parametrize(("name", "part"), GAPS)
def test_a15_a_gap_is_refused_and_named(name, part, changed, capfd):
    folder = changed(name, without(part))
    with pytest.raises(UnsupportedError) as error:
        open_backbone(folder, "cpu", "float32")
    said = re.search(r"lack (\d+) of its weights \(([^)]+)\)", str(error.value))
    assert said and int(said[1]) >= 1
    assert part.strip(".").rpartition(".")[2] in said[2], said[2]
    assert "LOAD REPORT" not in capfd.readouterr().err, "transformers' table would stand before the one line"


def test_a15_all_that_is_missing_is_counted(changed):
    folder = changed("llama", without("layers."))
    with pytest.raises(UnsupportedError, match=r"lack 54 of its weights \(model\.layers\.0\.\S+, \S+, \S+, …\)"):
        open_backbone(folder, "cpu", "float32")


def test_a15_a_tied_head_may_be_absent(changed, tmp_path):
    """The class says so where its configuration ties it; both ends gone is a gap."""
    tied = make("llama", tmp_path / "tied", tie_word_embeddings=True)
    assert "lm_head.weight" not in load_file(tied / "model.safetensors")
    model = open_backbone(str(tied), "cpu", "float32").model
    assert model.lm_head.weight.data_ptr() == model.get_input_embeddings().weight.data_ptr()
    held = load_file(tied / "model.safetensors")
    del held["model.embed_tokens.weight"]
    save_file(held, tied / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UnsupportedError, match="embed_tokens"):
        open_backbone(str(tied), "cpu", "float32")


def test_a15_what_a_class_lists_as_ignored_may_be_absent(changed, monkeypatch):
    folder = changed("llama", without("lm_head"))
    monkeypatch.setattr(tf.LlamaForCausalLM, "_keys_to_ignore_on_load_missing", [r"lm_head\.weight"])
    assert open_backbone(folder, "cpu", "float32").blocks


@pytest.mark.parametrize("name", ["llama", "llava-onevision"])
def test_a15_weights_of_another_shape_are_refused(name, changed):
    def narrower(weights):
        key = next(key for key in weights if key.endswith(("projector.linear_1.weight", "layers.2.mlp.up_proj.weight")))
        return {**weights, key: weights[key][:-1].clone()}

    with pytest.raises(
        UnsupportedError, match=r"have 1 in another shape \(first: \S+ \(\d+, \d+\), not \(\d+, \d+\)\)"
    ):
        open_backbone(changed(name, narrower), "cpu", "float32")


def test_a15_the_weights_of_another_class_are_named_too(changed):
    folder = changed("llama", lambda weights: {key.replace("self_attn", "attn"): held for key, held in weights.items()})
    with pytest.raises(
        UnsupportedError, match=r"lack 24 .*and hold 24 that LlamaForCausalLM has no place for .*\.attn\."
    ):
        open_backbone(folder, "cpu", "float32")


@pytest.mark.parametrize(
    "key",
    [
        "model.layers.6.mlp.up_proj.weight",
        "model.layers.0.self_attn.q_proj.bias",
        "model.layers.0.self_attn.q_norm.weight",
        "model.layers.0.self_attn.q_proj.lora_A.default.weight",
        "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight",
        "model.norm.bias",
    ],
)
def test_a15_weights_that_the_class_would_leave_out_of_its_blocks_are_refused(key, changed):
    folder = changed("llama", lambda weights: {**weights, key: torch.zeros(4)})
    with pytest.raises(UnsupportedError, match=rf"hold 1 that LlamaForCausalLM has no place for \({re.escape(key)}\)"):
        open_backbone(folder, "cpu", "float32")


def test_a15_a_further_block_of_the_tower_is_refused(changed):
    def deeper(weights):
        block = {key: value for key, value in weights.items() if key.startswith("visual.blocks.3.")}
        return weights | {key.replace(".3.", ".4.", 1): value.clone() for key, value in block.items()}

    with pytest.raises(UnsupportedError, match=r"visual\.blocks\.4\."):
        open_backbone(changed("qwen2.5-vl", deeper), "cpu", "float32")


def test_a15_a_head_for_another_task_is_left_alone(changed):
    folder = changed("llama", lambda weights: {**weights, "score.weight": torch.zeros(2, 64)})
    assert open_backbone(folder, "cpu", "float32").blocks


def test_a15_the_command_says_it_in_two_lines_and_writes_nothing(changed, tmp_path):
    folder = changed("llava-onevision", without("multi_modal_projector"))
    out = tmp_path / "x.zarr"
    result = CliRunner().invoke(
        app, ["extract", "--model", folder, "--dataset", "tiny", "--limit", "2", "--out", str(out)]
    )
    assert result.exit_code == 2 and not out.exists()
    assert "multi_modal_projector" in result.output and "Traceback" not in result.output
