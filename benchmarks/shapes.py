"""Backbones of the paper's shapes with random weights, drawn where they run; in miniature on a CPU.

The text and vision configurations are those of the checkpoints' own config.json; tokenizers are the tests' small ones,
whose special tokens the configurations name. Nothing is downloaded.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers as tf

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "helpers"))
from checkpoints import MAKERS, TEXT, randomise_zeros

from relope.extract.model.backbone import Backbone
from relope.extract.model.card import Card, open_card
from relope.extract.model.load import mend
from relope.extract.model.traits import traits_of

SHAPES = ("qwen2.5-vl-7b", "gemma3-12b", "phi4-multimodal")
IMAGE = 28 * 28
"""Pixels of one merged token of Qwen2.5-VL."""


def shaped(name: str, device: str, *, small: bool = False) -> Backbone:
    """Return a backbone of a shape in bfloat16, its weights drawn on the device.

    Args:
        name: one of ``SHAPES``.
        device: where it runs.
        small: six narrow blocks in place of the real ones.
    """
    config, processor, end = _miniature(name)
    if not small:
        config, processor = {"qwen2.5-vl-7b": _qwen, "gemma3-12b": _gemma, "phi4-multimodal": _phi}[name](
            config, processor
        )
    architecture: Any = getattr(tf, config.architectures[0])
    with _drawing(device):
        model = architecture._from_config(config, attn_implementation="sdpa", dtype=torch.bfloat16)
        randomise_zeros(model)
    model.generation_config = tf.GenerationConfig(eos_token_id=end, pad_token_id=0, do_sample=False)
    mend(model)
    card = open_card(name)
    card = Card(card.source, len(model.get_decoder().layers), card.layer if not small else 4, card.batch_size)
    return Backbone(
        name,
        model.to(device).eval().requires_grad_(False),
        processor,
        traits_of(model, processor),
        card,
        "bfloat16",
        {"model_files": f"{name}, drawn at random", "compute_dtype": "bfloat16", "attention": "sdpa"},
        {"model": name, "source": "", "revision": "", "class": type(model).__name__, "device": device},
    )


@contextmanager
def _drawing(device: str) -> Iterator[None]:
    """Draw weights on a device from a seed of its own."""
    devices = [torch.cuda.current_device()] if device.startswith("cuda") else []
    with torch.random.fork_rng(devices=devices), torch.device(device):
        torch.manual_seed(0)
        yield


def _miniature(name: str) -> tuple[Any, Any, int]:
    """Return configuration, processor and end token of the tests' checkpoint of a shape's class."""
    kind = {"qwen2.5-vl-7b": "qwen2.5-vl", "gemma3-12b": "gemma3"}.get(name, name)
    with torch.device("meta"):
        model, processor, end = MAKERS[kind]({**TEXT, "num_hidden_layers": 6})
    model.config.architectures = [type(model).__name__]
    processor.chat_template = processor.chat_template or processor.tokenizer.chat_template  # Phi-4's has none
    return model.config, processor, end


def _like(config: Any, **changes: Any) -> Any:
    """Return a configuration of the same class; of the tests' one remain the ids of special tokens."""
    kept = {key: value for key, value in config.to_dict().items() if key.endswith(("_id", "_index", "architectures"))}
    return type(config)(**kept, **changes)


def _qwen(config: Any, processor: Any) -> tuple[Any, Any]:
    """Qwen/Qwen2.5-VL-7B-Instruct; an image is 256 tokens, the fewest that the model's card allows."""
    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]}
    text = {
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "max_position_embeddings": 128000,
        "rms_norm_eps": 1e-6,
        "rope_parameters": rope,
        "vocab_size": 152064,
        "bos_token_id": None,
        "eos_token_id": 1,
        "pad_token_id": 0,
    }
    vision = {"hidden_size": 1280, "out_hidden_size": 3584, "tokens_per_second": 2}  # else as the class has it
    processor.image_processor = tf.Qwen2VLImageProcessor(min_pixels=256 * IMAGE, max_pixels=256 * IMAGE)
    return _like(config, text_config=text, vision_config=vision), processor


def _gemma(config: Any, processor: Any) -> tuple[Any, Any]:
    """google/gemma-3-12b-it; every sixth block sees the whole prompt, an image is 256 tokens."""
    rope = {
        "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
        "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
    }
    held = config.text_config
    text = {
        "hidden_size": 3840,
        "intermediate_size": 15360,
        "num_hidden_layers": 48,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "head_dim": 256,
        "query_pre_attn_scalar": 256,
        "sliding_window": 1024,
        "layer_types": ["sliding_attention" if number % 6 else "full_attention" for number in range(1, 49)],
        "max_position_embeddings": 131072,
        "rope_parameters": rope,
        "vocab_size": 262208,
        "bos_token_id": held.bos_token_id,
        "eos_token_id": held.eos_token_id,
        "pad_token_id": 0,
    }
    vision = {
        "hidden_size": 1152,
        "intermediate_size": 4304,
        "num_hidden_layers": 27,
        "num_attention_heads": 16,
        "image_size": 896,
        "patch_size": 14,
    }
    images = tf.Gemma3ImageProcessor(size={"height": 896, "width": 896})
    larger = tf.Gemma3Processor(
        image_processor=images,
        tokenizer=processor.tokenizer,
        chat_template=processor.chat_template,
        image_seq_length=256,
    )
    return _like(config, text_config=text, vision_config=vision, mm_tokens_per_image=256), larger


def _phi(config: Any, processor: Any) -> tuple[Any, Any]:
    """microsoft/Phi-4-multimodal-instruct; the vision and audio towers are as the class has them."""
    rope = {
        "rope_type": "longrope",
        "rope_theta": 1e4,
        "partial_rotary_factor": 0.75,
        "short_factor": [1.0] * 48,
        "long_factor": [2.0] * 48,
    }
    made = _like(
        config,
        hidden_size=3072,
        intermediate_size=8192,
        num_hidden_layers=32,
        num_attention_heads=24,
        num_key_value_heads=8,
        max_position_embeddings=131072,
        original_max_position_embeddings=4096,
        rope_parameters=rope,
        vocab_size=200064,
        vision_config={"image_token_id": config.vision_config.image_token_id},
        audio_config={"audio_token_id": config.audio_config.audio_token_id},
    )
    return made, processor
