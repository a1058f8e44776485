"""The second testbed's MLLM: a LLaVA of 256 image tokens, and a forward of its decoder that keeps every state."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from premise_scenes import ANSWERS, CELL, PLACES, RADII, SIDE, SLOTS, TEMPLATES
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor, nn
from transformers import (
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    SiglipImageProcessor,
)

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image>", "<|unk|>")
PAD, START, END, IMAGE, UNKNOWN = range(5)
TEMPLATE = (
    "{% for m in messages %}<|im_start|> {{ m['role'] }} {% if m['content'] is string %}{{ m['content'] }}"
    "{% else %}{% for c in m['content'] %}{% if c['type'] == 'image' %} <image> "
    "{% elif c['type'] == 'text' %}{{ c['text'] }} {% endif %}"
    "{% endfor %}{% endif %} <|im_end|>{% endfor %}{% if add_generation_prompt %}<|im_start|> assistant{% endif %}"
)


class Size(NamedTuple):
    """Shape of the model."""

    width: int = 192
    blocks: int = 8
    heads: int = 6
    inner: int = 512
    vision_width: int = 160
    vision_blocks: int = 5
    vision_heads: int = 5
    vision_inner: int = 480


def _words() -> tuple[str, ...]:
    """Return the vocabulary without special tokens, sorted so that ids are stable."""
    seen = {word for text in TEMPLATES.values() for word in text.split() if "{" not in word}
    seen.update(word for lists in SLOTS.values() for choices in lists for word in choices)
    seen.update(word for answers in ANSWERS.values() for word in answers)
    seen.update(f"s{size}" for size in range(len(RADII)))
    seen.update(f"{axis}{place}" for axis in "xy" for place in range(PLACES))
    return tuple(sorted({*seen, ";", "user", "assistant"}))


WORD = {word: place for place, word in enumerate((*SPECIAL, *_words()))}
"""Token → id."""


def build_processor() -> LlavaProcessor:
    """Build the real processor: word-level tokens, images of 256×256 pixels, 256 image tokens."""
    core = Tokenizer(models.WordLevel(WORD, unk_token="<|unk|>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        unk_token="<|unk|>",
        additional_special_tokens=["<|im_start|>", "<image>"],
        extra_special_tokens={"image_token": "<image>"},
        padding_side="left",
        model_max_length=512,
    )
    size = {"height": SIDE, "width": SIDE}
    images = SiglipImageProcessor(size=size, image_mean=[0.5] * 3, image_std=[0.5] * 3)
    return LlavaProcessor(
        images, tokenizer, patch_size=CELL, vision_feature_select_strategy="full", chat_template=TEMPLATE
    )


def build_model(seed: int, size: Size) -> Any:
    """Build the untrained model: 5.1 M parameters at the size that it is trained in."""
    text = {
        "model_type": "llama",
        "vocab_size": len(WORD),
        "hidden_size": size.width,
        "intermediate_size": size.inner,
        "num_hidden_layers": size.blocks,
        "num_attention_heads": size.heads,
        "num_key_value_heads": size.heads,
        "max_position_embeddings": 512,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1000.0},
        "tie_word_embeddings": True,
        "bos_token_id": None,
        "eos_token_id": END,
        "pad_token_id": PAD,
        "initializer_range": 0.05,
    }
    vision = {
        "model_type": "siglip_vision_model",
        "hidden_size": size.vision_width,
        "intermediate_size": size.vision_inner,
        "num_hidden_layers": size.vision_blocks,
        "num_attention_heads": size.vision_heads,
        "image_size": SIDE,
        "patch_size": CELL,
        "vision_use_head": False,
    }
    config = LlavaConfig(
        text_config=text,
        vision_config=vision,
        image_token_index=IMAGE,
        image_seq_length=PLACES**2,
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
        tie_word_embeddings=True,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlavaForConditionalGeneration(config)
    model.generation_config.do_sample = False
    model.generation_config.eos_token_id = END
    model.generation_config.pad_token_id = PAD
    return model


def image_features(model: Any, pictures: Tensor) -> Tensor:
    """Return the image tokens ``[B, 256, H]`` of pictures ``[B, 256, 256, 3] uint8``."""
    scaled = pictures.permute(0, 3, 1, 2).float() / 127.5 - 1
    return torch.stack(list(model.model.get_image_features(pixel_values=scaled).pooler_output))


def decoder_block(layer: Any, hidden: Tensor, rotary: tuple[Tensor, Tensor], mask: Tensor) -> Tensor:
    """Run one decoder block over ``[B, T, H]``: what the library does, with fewer passes over memory.

    Args:
        layer: the library's block.
        hidden: its input.
        rotary: cosine and sine ``[T, D]``.
        mask: ``[…, T, T] bool``, True where a token sees another.
    """
    attention, heads = layer.self_attn, layer.self_attn.config.num_attention_heads
    states = rms_norm(hidden, layer.input_layernorm)
    projections = attention.q_proj, attention.k_proj, attention.v_proj
    query, key, value = (part(states).unflatten(-1, (heads, -1)).transpose(1, 2) for part in projections)
    query, key = rotated(query, *rotary), rotated(key, *rotary)
    mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    hidden = hidden + attention.o_proj(mixed.transpose(1, 2).flatten(2))
    return hidden + layer.mlp(rms_norm(hidden, layer.post_attention_layernorm))


def rms_norm(hidden: Tensor, norm: Any) -> Tensor:
    """Apply the library's norm in one operation."""
    return F.rms_norm(hidden, hidden.shape[-1:], norm.weight.to(hidden.dtype), norm.variance_epsilon)


def rotated(states: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Apply the rotary embedding ``[T, D]`` to ``[…, T, D]``."""
    left, right = states.chunk(2, -1)
    cosine, sine = cosine.to(states.dtype), sine.to(states.dtype)
    half = cosine.shape[-1] // 2
    return torch.cat(
        (
            left * cosine[..., :half] - right * sine[..., :half],
            right * cosine[..., half:] + left * sine[..., half:],
        ),
        -1,
    )


def decode(model: Any, embedded: Tensor, positions: Tensor, mask: Tensor) -> list[Tensor]:
    """Return the input and every block's output, each ``[B, T, H]``, and last the normalised one.

    Args:
        model: the LLaVA.
        embedded: ``[B, T, H]`` text and image tokens.
        positions: ``[T]``; the embedding is rotary, so a constant more for a row changes nothing.
        mask: ``[…, T, T] bool``.
    """
    language = model.model.language_model
    cosine, sine = language.rotary_emb(embedded, positions[None])
    states = [embedded]
    for layer in language.layers:
        states.append(decoder_block(layer, states[-1], (cosine[0], sine[0]), mask))
    return [*states, rms_norm(states[-1], language.norm)]


def save(model: nn.Module, folder: Path, record: dict[str, Any]) -> None:
    """Write a checkpoint folder in fp16 with its processor and the record of how it was made."""
    half = {name: tensor.detach().half().cpu() for name, tensor in model.state_dict().items()}
    model.save_pretrained(folder, state_dict=half)
    config = json.loads((folder / "config.json").read_text())
    config["dtype"] = "float16"
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    build_processor().save_pretrained(folder)
    (folder / "training.json").write_text(json.dumps(record, indent=2, sort_keys=True) + "\n")


def encode(words: Sequence[str]) -> list[int]:
    """Return the ids of words."""
    return [WORD[word] for word in words]
