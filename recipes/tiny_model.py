"""The tiny MLLM's configuration, processor and a batched forward of its vision tower."""

import json
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
from torch import Tensor, nn
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
)
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import apply_rotary_pos_emb_vision

from relope.extract.data import prompts
from relope.tiny.scenes.vocabulary import words

SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
    "<|unk|>",
)
PHRASES = (prompts.SELECT, prompts.TRUE_OR_FALSE, prompts.DIRECT, prompts.CHAIN_OF_THOUGHT)
"""Fixed sentences of our prompts: one token each, so that they cost a tiny model nothing."""

PAD, START, END, SEE, SEEN, IMAGE = range(6)
PATCHES, MERGED, GRID = 64, 16, 4
TEMPLATE = (
    "{% for m in messages %}<|im_start|> {{ m['role'] }} {% if m['content'] is string %}{{ m['content'] }}"
    "{% else %}{% for c in m['content'] %}{% if c['type'] == 'image' %}"
    "<|vision_start|><|image_pad|><|vision_end|> {% elif c['type'] == 'text' %}{{ c['text'] }} {% endif %}"
    "{% endfor %}{% endif %} <|im_end|>{% endfor %}{% if add_generation_prompt %}<|im_start|> assistant{% endif %}"
)


def vocabulary() -> dict[str, int]:
    """Return token → id; the order is fixed, so ids are stable."""
    return {word: index for index, word in enumerate((*SPECIAL, *PHRASES, *words()))}


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Build the word-level tokenizer; an unknown word becomes ``<|unk|>``."""
    core = Tokenizer(models.WordLevel(vocabulary(), unk_token="<|unk|>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    core.add_tokens([AddedToken(phrase, normalized=False) for phrase in PHRASES])
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        unk_token="<|unk|>",
        additional_special_tokens=list(SPECIAL[1:7]),
        padding_side="left",
        model_max_length=256,
    )


def build_processor() -> Qwen2_5_VLProcessor:
    """Build the real processor for 64×64 images: 64 patches, 16 merged tokens."""
    patches = {"patch_size": 8, "merge_size": 2, "temporal_patch_size": 2}
    images = Qwen2VLImageProcessor(
        **patches, min_pixels=4096, max_pixels=4096, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )
    return Qwen2_5_VLProcessor(
        image_processor=images,
        tokenizer=build_tokenizer(),
        video_processor=Qwen2VLVideoProcessor(**patches),
        chat_template=TEMPLATE,
    )


def build_model(seed: int) -> Qwen2_5_VLForConditionalGeneration:
    """Build the untrained model: 1.6 M parameters, 6 decoder blocks of width 128."""
    text = {
        "vocab_size": len(vocabulary()),
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_hidden_layers": 6,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "max_position_embeddings": 256,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 6, 6]},
        "tie_word_embeddings": True,
        "bos_token_id": None,
        "eos_token_id": END,
        "pad_token_id": PAD,
        "initializer_range": 0.05,
    }
    vision = {
        "depth": 4,
        "hidden_size": 96,
        "intermediate_size": 192,
        "num_heads": 4,
        "patch_size": 8,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "window_size": 64,
        "out_hidden_size": 128,
        "fullatt_block_indexes": [0, 1, 2, 3],
        "initializer_range": 0.05,
    }
    config = Qwen2_5_VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=IMAGE,
        video_token_id=IMAGE + 1,
        vision_start_token_id=SEE,
        vision_end_token_id=SEEN,
        tie_word_embeddings=True,
        initializer_range=0.05,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Qwen2_5_VLForConditionalGeneration(config)
    model.generation_config.do_sample = False
    model.generation_config.eos_token_id = END
    model.generation_config.pad_token_id = PAD
    model.set_attn_implementation("eager")  # the backward of flash attention is slow on CPU
    return model


def patchify(pixels: Tensor) -> Tensor:
    """Turn images ``[B, 64, 64, 3] uint8`` into what the image processor makes: ``[B·64, 384]``."""
    scaled = pixels.permute(0, 3, 1, 2).float() / 127.5 - 1
    twice = scaled[:, None].expand(-1, 2, -1, -1, -1)
    cut = twice.reshape(len(pixels), 1, 2, 3, GRID, 2, 8, GRID, 2, 8)
    return cut.permute(0, 1, 4, 7, 5, 8, 3, 2, 6, 9).reshape(len(pixels) * PATCHES, 384)


_PLACES = torch.tensor(
    [[2 * row + r, 2 * column + c] for row in range(GRID) for column in range(GRID) for r in (0, 1) for c in (0, 1)]
)


def vision_block(block: nn.Module, hidden: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Run one vision block over ``[B, 64, H]``: what the library does per image, for all at once."""
    batch, heads = len(hidden), block.attn.num_heads
    query, key, value = block.attn.qkv(block.norm1(hidden)).view(batch, PATCHES, 3, heads, -1).unbind(2)
    query, key = apply_rotary_pos_emb_vision(query, key, cosine, sine)
    query, key, value = (x.transpose(1, 2) for x in (query, key, value))
    weights = ((query * query.shape[-1] ** -0.5) @ key.transpose(2, 3)).softmax(-1)
    mixed = (weights @ value).transpose(1, 2).reshape(batch, PATCHES, -1)
    hidden = hidden + block.attn.proj(mixed)
    return hidden + block.mlp(block.norm2(hidden))


def vision_features(tower: Any, pixels: Tensor, run_block: Any = vision_block) -> Tensor:
    """Return the merged image tokens ``[B, 16, 128]`` of images ``[B, 64, 64, 3] uint8``."""
    weight = tower.patch_embed.proj.weight
    hidden = F.linear(patchify(pixels), weight.view(weight.shape[0], -1))
    cosine, sine = tower.rotary_pos_emb(hidden, _PLACES)
    hidden = hidden.view(len(pixels), PATCHES, -1)
    for block in tower.blocks:
        hidden = run_block(block, hidden, cosine, sine)
    return tower.merger(hidden.reshape(len(pixels) * PATCHES, -1)).view(len(pixels), MERGED, -1)


def save(model: nn.Module, processor: Qwen2_5_VLProcessor, folder: Path, record: dict[str, Any]) -> None:
    """Write a checkpoint folder in fp16 with its processor and the record of how it was made."""
    half = {name: tensor.detach().half() for name, tensor in model.state_dict().items()}
    model.save_pretrained(folder, state_dict=half)
    config = json.loads((folder / "config.json").read_text())
    config["dtype"] = "float16"
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    processor.save_pretrained(folder)
    (folder / "training.json").write_text(json.dumps(record, indent=2, sort_keys=True) + "\n")
