"""Tiny randomly initialised checkpoints of the real classes, with their real processors; nothing is downloaded."""

from pathlib import Path
from typing import Any

import torch
import transformers as tf
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

CLASSES: tuple[str, ...] = (
    "qwen2.5-vl",
    "qwen3-vl",
    "gemma3",
    "phi4-multimodal",
    "llava-onevision",
    "internvl",
    "smolvlm",
    "llama",
    "gemma3-text",
)
TEXT_ONLY = ("llama", "gemma3-text")

TEXT = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
    "initializer_range": 0.1,
}
VISION = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "initializer_range": 0.2,
}
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% if m['content'] is string %}{{ m['content'] }}{% else %}"
    "{% for c in m['content'] %}{% if c['type'] == 'image' %}IMAGE{% else %}{{ c['text'] }}{% endif %}{% endfor %}"
    "{% endif %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
GEMMA = (
    "<bos>{% for m in messages %}<start_of_turn>{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n"
    "{% if m['content'] is string %}{{ m['content'] }}{% else %}{% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}<start_of_image>{% else %}{{ c['text'] | trim }}{% endif %}{% endfor %}{% endif %}"
    "<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
PHI = (
    "{% for m in messages %}<|{{ m['role'] }}|>{% if m['content'] is string %}{{ m['content'] }}{% else %}"
    "{% for c in m['content'] %}{% if c['type'] == 'image' %}<|image|>{% else %}{{ c['text'] }}{% endif %}{% endfor %}"
    "{% endif %}<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
CORPUS = (
    "Question: Options: Please select the correct answer from the options above.",
    "Is the answer above correct? Reply True or False. True False The answer is Let us think step by step.",
    "What colour is the object? Which bar is the tallest? How many circles are there? user assistant model system",
)


def make(name: str, folder: Path, *, blocks: int = 6, seed: int = 0, **text: Any) -> Path:
    """Write a checkpoint of a class into a folder and return it.

    Args:
        name: one of ``CLASSES``.
        folder: where; made if need be.
        blocks: decoder blocks.
        seed: of the weights.
        text: what else the text configuration shall say, e.g. ``hidden_size=256``.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model, processor, end = MAKERS[name]({**TEXT, "num_hidden_layers": blocks, **text})
        randomise_zeros(model)
    model.generation_config = tf.GenerationConfig(eos_token_id=end, pad_token_id=0, do_sample=False)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def randomise_zeros(model: torch.nn.Module) -> None:
    """Give matrices that are initialised to zero (Gemma3's image projection) values with an effect."""
    for parameter in model.parameters():
        if parameter.ndim > 1 and not parameter.any():
            torch.nn.init.normal_(parameter, std=0.2)


def _tokenizer(template: str, end: str, specials: tuple[str, ...], **named: str) -> Any:
    """Build a byte-level BPE of 420 entries; ``named`` are the tokens that a processor asks for by attribute."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    every = ["<pad>", end, *specials, *(token for token in named.values() if token not in specials)]
    trainer = trainers.BpeTrainer(vocab_size=420, initial_alphabet=alphabet, special_tokens=every, show_progress=False)
    core.train_from_iterator(CORPUS, trainer)
    return tf.PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<pad>",
        eos_token=end,
        padding_side="left",
        chat_template=template,
        additional_special_tokens=list(specials),
        extra_special_tokens=named,
    )


def _ids(tokenizer: Any, *tokens: str) -> list[int]:
    return [tokenizer.convert_tokens_to_ids(token) for token in tokens]


def _chatml(image: str, *specials: str, **named: str) -> Any:
    return _tokenizer(CHATML.replace("IMAGE", image), "<|im_end|>", ("<|im_start|>", *specials), **named)


QWEN = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")


def _qwen(text: dict[str, Any], version: str) -> tuple[Any, Any, int]:
    old = version == "2_5_"
    tokenizer = _chatml("<|vision_start|><|image_pad|><|vision_end|>", *QWEN)
    start, stop, image, video = _ids(tokenizer, *QWEN)
    sizes = {"patch_size": 8, "merge_size": 2, "temporal_patch_size": 2}
    budget = {"min_pixels": 32 * 32, "max_pixels": 64 * 64}
    images = tf.Qwen2VLImageProcessor(**sizes, **budget)
    videos = (tf.Qwen2VLVideoProcessor if old else tf.Qwen3VLVideoProcessor)(**sizes)
    processor = getattr(tf, f"Qwen{version}VLProcessor".replace("_VL", "_VL" if old else "VL"))(
        image_processor=images, tokenizer=tokenizer, video_processor=videos, chat_template=tokenizer.chat_template
    )
    vision = {
        "depth": 4,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_heads": 2,
        "patch_size": 8,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "out_hidden_size": text["hidden_size"],
        "initializer_range": 0.2,
    }
    if old:
        vision |= {"window_size": 32, "fullatt_block_indexes": [1, 3]}
    else:
        vision |= {"deepstack_visual_indexes": [0, 1, 2], "num_position_embeddings": 64}
    text = {**text, "bos_token_id": None, "eos_token_id": 1, "pad_token_id": 0}
    half = text.get("head_dim", text["hidden_size"] // text["num_attention_heads"]) // 2
    section = [half - 2 * (half // 3), half // 3, half // 3]
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": section}
    if not old:
        rope["mrope_interleaved"] = True
    text = {**text, "vocab_size": len(tokenizer), "rope_parameters": rope, "head_dim": 2 * half}
    config = getattr(tf, f"Qwen{version}VLConfig")(
        text_config=text,
        vision_config=vision,
        image_token_id=image,
        video_token_id=video,
        vision_start_token_id=start,
        vision_end_token_id=stop,
    )
    return getattr(tf, f"Qwen{version}VLForConditionalGeneration")(config), processor, tokenizer.eos_token_id


def _gemma_text(text: dict[str, Any], tokenizer: Any) -> dict[str, Any]:
    kinds = [
        "full_attention" if number % 3 == 0 else "sliding_attention"
        for number in range(1, text["num_hidden_layers"] + 1)
    ]
    begin, end = _ids(tokenizer, "<bos>", "<end_of_turn>")
    return {
        **text,
        "vocab_size": len(tokenizer),
        "head_dim": text.get("head_dim", 16),
        "query_pre_attn_scalar": text.get("head_dim", 16),
        "sliding_window": 32,
        "layer_types": kinds,
        "bos_token_id": begin,
        "eos_token_id": end,
        "pad_token_id": 0,
        "tie_word_embeddings": False,
    }


GEMMA_TOKENS = {"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "image_token": "<image_soft_token>"}


def _gemma3(text: dict[str, Any]) -> tuple[Any, Any, int]:
    tokenizer = _tokenizer(GEMMA, "<end_of_turn>", ("<bos>", "<start_of_turn>"), **GEMMA_TOKENS)
    if text.pop("newline_tokens", False):  # the real one has them, and vLLM looks for them
        tokenizer.add_tokens(["\n" * number for number in (1, 2, 3, 4)])
    start, stop, image = _ids(tokenizer, *GEMMA_TOKENS.values())
    images = tf.Gemma3ImageProcessor(size={"height": 32, "width": 32})
    processor = tf.Gemma3Processor(image_processor=images, tokenizer=tokenizer, chat_template=GEMMA, image_seq_length=4)
    config = tf.Gemma3Config(
        text_config=_gemma_text(text, tokenizer),
        vision_config={**VISION, "image_size": 32, "patch_size": 8, "vision_use_head": False},
        mm_tokens_per_image=4,
        boi_token_index=start,
        eoi_token_index=stop,
        image_token_index=image,
        tie_word_embeddings=False,
    )
    return tf.Gemma3ForConditionalGeneration(config), processor, tokenizer.eos_token_id


def _gemma3_text(text: dict[str, Any]) -> tuple[Any, Any, int]:
    tokenizer = _tokenizer(GEMMA, "<end_of_turn>", ("<bos>", "<start_of_turn>"))
    config = tf.Gemma3TextConfig(**_gemma_text(text, tokenizer))
    return tf.Gemma3ForCausalLM(config), tokenizer, tokenizer.eos_token_id


def _llama(text: dict[str, Any]) -> tuple[Any, Any, int]:
    tokenizer = _chatml("")
    config = tf.LlamaConfig(**text, vocab_size=len(tokenizer), bos_token_id=None, eos_token_id=1, pad_token_id=0)
    return tf.LlamaForCausalLM(config), tokenizer, tokenizer.eos_token_id


def _phi4(text: dict[str, Any]) -> tuple[Any, Any, int]:
    named = {"image_token": "<|image|>", "audio_token": "<|audio|>"}
    tokenizer = _tokenizer(PHI, "<|end|>", ("<|user|>", "<|assistant|>"), **named)
    image, audio = _ids(tokenizer, *named.values())
    processor = tf.Phi4MultimodalProcessor(
        tf.Phi4MultimodalImageProcessor(dynamic_hd=2), tf.Phi4MultimodalFeatureExtractor(), tokenizer
    )
    half = text["hidden_size"] // text["num_attention_heads"] // 2
    rope = {
        "rope_type": "longrope",
        "rope_theta": 10000.0,
        "short_factor": [1.0] * half,
        "long_factor": [2.0] * half,
        "partial_rotary_factor": 1.0,
    }
    sounds = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_blocks": 2,
        "num_attention_heads": 2,
        "ext_pw_out_channel": 32,
        "depthwise_separable_out_channel": 32,
        "nemo_conv_channels": 32,
        "audio_token_id": audio,
    }
    config = tf.Phi4MultimodalConfig(
        **{**text, "max_position_embeddings": 8192},
        vocab_size=len(tokenizer),
        rope_parameters=rope,
        original_max_position_embeddings=4096,
        bos_token_id=0,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=0,
        vision_config={**VISION, "image_token_id": image},
        audio_config=sounds,
    )
    return tf.Phi4MultimodalForCausalLM(config), processor, tokenizer.eos_token_id


def _llava_onevision(text: dict[str, Any]) -> tuple[Any, Any, int]:
    named = {"image_token": "<image>", "video_token": "<video>"}
    tokenizer = _chatml("<image>", **named)
    image, video = _ids(tokenizer, *named.values())
    pinpoints = [[32, 32], [32, 64], [64, 32], [64, 64]]
    size = {"height": 32, "width": 32}
    processor = tf.LlavaOnevisionProcessor(
        image_processor=tf.LlavaOnevisionImageProcessor(size=size, image_grid_pinpoints=pinpoints),
        tokenizer=tokenizer,
        video_processor=tf.LlavaOnevisionVideoProcessor(size=size),
        num_image_tokens=16,
        vision_feature_select_strategy="full",
        chat_template=tokenizer.chat_template,
    )
    vision = {
        "model_type": "siglip_vision_model",
        **VISION,
        "image_size": 32,
        "patch_size": 8,
        "vision_use_head": False,
    }
    config = tf.LlavaOnevisionConfig(
        text_config={"model_type": "qwen2", **text, "vocab_size": len(tokenizer)},
        vision_config=vision,
        image_token_index=image,
        video_token_index=video,
        image_grid_pinpoints=pinpoints,
    )
    return tf.LlavaOnevisionForConditionalGeneration(config), processor, tokenizer.eos_token_id


def _internvl(text: dict[str, Any]) -> tuple[Any, Any, int]:
    named = {
        "start_image_token": "<img>",
        "end_image_token": "</img>",
        "context_image_token": "<IMG_CONTEXT>",
        "video_token": "<video>",
    }
    tokenizer = _chatml("<IMG_CONTEXT>", **named)
    size = {"height": 32, "width": 32}
    processor = tf.InternVLProcessor(
        image_processor=tf.GotOcr2ImageProcessor(size=size, max_patches=2),
        tokenizer=tokenizer,
        video_processor=tf.InternVLVideoProcessor(size=size),
        image_seq_length=4,
        chat_template=tokenizer.chat_template,
    )
    (image,) = _ids(tokenizer, "<IMG_CONTEXT>")
    config = tf.InternVLConfig(
        text_config={"model_type": "qwen2", **text, "vocab_size": len(tokenizer)},
        image_token_id=image,
        vision_config={**VISION, "image_size": [32, 32], "patch_size": [8, 8]},
        image_seq_length=4,
    )
    return tf.InternVLForConditionalGeneration(config), processor, tokenizer.eos_token_id


def _smolvlm(text: dict[str, Any]) -> tuple[Any, Any, int]:
    rows = tuple(f"<row_{row}_col_{column}>" for row in (1, 2) for column in (1, 2))
    named = {
        "image_token": "<image>",
        "fake_image_token": "<fake_token_around_image>",
        "global_image_token": "<global-img>",
        "end_of_utterance_token": "<end_of_utterance>",
    }
    tokenizer = _chatml("<image>", *rows, **named)
    edge = {"longest_edge": 32}
    processor = tf.SmolVLMProcessor(
        image_processor=tf.SmolVLMImageProcessor(size={"longest_edge": 64}, max_image_size=edge),
        tokenizer=tokenizer,
        video_processor=tf.SmolVLMVideoProcessor(size=edge, max_image_size=edge),
        image_seq_len=4,
        chat_template=tokenizer.chat_template,
    )
    (image,) = _ids(tokenizer, "<image>")
    config = tf.SmolVLMConfig(
        text_config={"model_type": "llama", **text, "vocab_size": len(tokenizer), "pad_token_id": 0},
        vision_config={**VISION, "image_size": 32, "patch_size": 8},
        image_token_id=image,
        scale_factor=2,
        pad_token_id=0,
    )
    return tf.SmolVLMForConditionalGeneration(config), processor, tokenizer.eos_token_id


MAKERS = {
    "qwen2.5-vl": lambda text: _qwen(text, "2_5_"),
    "qwen3-vl": lambda text: _qwen(text, "3"),
    "gemma3": _gemma3,
    "phi4-multimodal": _phi4,
    "llava-onevision": _llava_onevision,
    "internvl": _internvl,
    "smolvlm": _smolvlm,
    "llama": _llama,
    "gemma3-text": _gemma3_text,
}


def check_needs(name: str) -> None:
    """Skip a test whose class has a processor that needs a package which is not here."""
    import pytest  # the benchmarks use this file too, and need no pytest

    if name == "smolvlm":
        pytest.importorskip("num2words")
